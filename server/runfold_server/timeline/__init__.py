"""{runs|experiments|models|logged-models}/…/events, why and diff of the native API: what happened to an entity, and by which event it is as it is."""
