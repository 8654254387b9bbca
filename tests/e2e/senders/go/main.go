// Sender is a small service that records a sale by OpenTelemetry alone and sends it by OTLP over HTTP.
//
// The standard OTEL_* variables say where to, with which token and under which name, TILL at which till. With CARRIER,
// the JSON of what otel_audit.carrier() returned or of W3C's headers, it goes on with the process that began there; else
// it begins one.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return err
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter))
	tracer := provider.Tracer("sender")
	if carrier := os.Getenv("CARRIER"); carrier != "" {
		err = goOn(ctx, tracer, carrier)
	} else {
		sell(ctx, tracer)
	}
	return errors.Join(err, provider.ForceFlush(ctx), provider.Shutdown(ctx))
}

// sell records a process with two steps, of which the second fails.
func sell(ctx context.Context, tracer trace.Tracer) {
	ctx, sale := tracer.Start(ctx, "Sale", trace.WithAttributes(
		attribute.String("audit.kind", "process"),
		attribute.String("audit.process.description", os.Getenv("TILL")),
		attribute.String("audit.actor.id", "42"),
		attribute.String("till.number", "7"),
	))
	defer sale.End()

	_, check := tracer.Start(ctx, "Check", trace.WithAttributes(
		attribute.String("audit.kind", "step"),
		attribute.Int("audit.step.expected_registrations", 2),
	))
	check.AddEvent("audit.registration", registration(true, "stock", attribute.Int("left", 3)))
	check.AddEvent("audit.registration", registration(false, "voucher",
		attribute.String("audit.registration.description", "expired")))
	check.End()

	// An ordinary span between a step and its process.
	inner, query := tracer.Start(ctx, "query")
	_, pay := tracer.Start(inner, "Pay", trace.WithAttributes(attribute.String("audit.kind", "step")))
	pay.SetStatus(codes.Error, "declined")
	pay.End()
	query.End()
}

// goOn adds a step to the process that carrier names, or W3C's headers, of which the SDK hands on what is to be known.
func goOn(ctx context.Context, tracer trace.Tracer, carrier string) error {
	var headers map[string]string
	if err := json.Unmarshal([]byte(carrier), &headers); err != nil {
		return err
	}
	attributes := []attribute.KeyValue{attribute.String("audit.kind", "step")}
	if signed := headers["otel-audit"]; signed != "" {
		told, err := read(signed)
		if err != nil {
			return err
		}
		attributes = append(attributes,
			attribute.String("audit.process.id", told.Process), attribute.Int("audit.step.order", told.Order))
	}
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier(headers))
	_, deliver := tracer.Start(ctx, "Deliver", trace.WithAttributes(attributes...))
	deliver.AddEvent("audit.registration", registration(true, "delivered"))
	deliver.End()
	return nil
}

type payload struct {
	Process string `json:"process"`
	Order   int    `json:"order"`
}

// read returns what stands before the first colon of a carrier, for everybody to read; the rest is the signature.
func read(signed string) (told payload, err error) {
	text, _, _ := strings.Cut(signed, ":")
	decoded, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return told, err
	}
	return told, json.Unmarshal(decoded, &told)
}

func registration(success bool, name string, more ...attribute.KeyValue) trace.SpanStartEventOption {
	return trace.WithAttributes(append(more,
		attribute.Bool("audit.registration.success", success),
		attribute.String("audit.registration.name", name))...)
}
