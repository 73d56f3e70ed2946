//! What only one kind needs: the hooks between the generic handlers and the store.
