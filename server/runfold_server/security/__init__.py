"""Who may call: the checks that every request passes before a route is looked up."""
