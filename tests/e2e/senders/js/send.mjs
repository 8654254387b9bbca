// A small service that records a sale by OpenTelemetry alone and sends it by OTLP over HTTP: node send.mjs proto|json
//
// The standard OTEL_* variables say where to, with which token and under which name, TILL at which till. With CARRIER,
// the JSON of what otel_audit.carrier() returned or of W3C's headers, it goes on with the process that began there; else
// it begins one.

import { context, defaultTextMapGetter, diag, DiagConsoleLogger, DiagLogLevel, ROOT_CONTEXT, SpanStatusCode, trace } from "@opentelemetry/api";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import { OTLPTraceExporter as JsonExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as ProtoExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { BatchSpanProcessor, NodeTracerProvider } from "@opentelemetry/sdk-trace-node";

diag.setLogger(new DiagConsoleLogger(), DiagLogLevel.WARN);
const Exporter = { proto: ProtoExporter, json: JsonExporter }[process.argv[2]];
const provider = new NodeTracerProvider({ spanProcessors: [new BatchSpanProcessor(new Exporter())] });
const tracer = provider.getTracer("sender");

function register(span, success, name, more = {}) {
  span.addEvent("audit.registration", {
    "audit.registration.success": success,
    "audit.registration.name": name,
    ...more,
  });
}

function startStep(name, attributes, parent) {
  return tracer.startSpan(name, { attributes: { "audit.kind": "step", ...attributes } }, parent);
}

/** Record a process with two steps, of which the second fails. */
function sell() {
  const sale = tracer.startSpan("Sale", {
    attributes: {
      "audit.kind": "process",
      "audit.process.description": process.env.TILL,
      "audit.actor.id": "42",
      "till.number": "7",
    },
  });
  const inSale = trace.setSpan(context.active(), sale);

  const check = startStep("Check", { "audit.step.expected_registrations": 2 }, inSale);
  register(check, true, "stock", { left: 3 });
  register(check, false, "voucher", { "audit.registration.description": "expired" });
  check.end();

  // An ordinary span between a step and its process.
  const query = tracer.startSpan("query", {}, inSale);
  const pay = startStep("Pay", {}, trace.setSpan(inSale, query));
  pay.setStatus({ code: SpanStatusCode.ERROR, message: "declined" });
  pay.end();
  query.end();
  sale.end();
}

/** Add a step to the process that a carrier names, or W3C's headers, of which the SDK hands on what is to be known. */
function goOn(carrier) {
  const headers = JSON.parse(carrier);
  const parent = new W3CTraceContextPropagator().extract(ROOT_CONTEXT, headers, defaultTextMapGetter);
  const attributes = {};
  if (headers["otel-audit"]) {
    // What stands before the first colon is for everybody to read, the rest is the signature.
    const told = JSON.parse(Buffer.from(headers["otel-audit"].split(":")[0], "base64url").toString());
    attributes["audit.process.id"] = told.process;
    attributes["audit.step.order"] = told.order;
  }
  const deliver = startStep("Deliver", attributes, parent);
  register(deliver, true, "delivered");
  deliver.end();
}

if (process.env.CARRIER) {
  goOn(process.env.CARRIER);
} else {
  sell();
}
await provider.forceFlush();
await provider.shutdown();
