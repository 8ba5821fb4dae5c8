"""What the tests share: services, installations, generated histories, models and doubles."""
