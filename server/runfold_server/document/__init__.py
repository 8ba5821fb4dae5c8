"""The OpenAPI document: shapes of answers, meanings of fields, and their way into one text."""
