"""From a request to a handler: routes, fields, errors, pages."""
