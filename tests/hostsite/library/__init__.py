"""A lending library: somebody's ordinary Django site, whose ordinary tests must not notice an audit trail."""
