//! Rules, selectors and rounds, without a network.
