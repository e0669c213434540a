"""The logic of the collection; modules, actions and filters are thin around it."""
