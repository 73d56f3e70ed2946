//! TokenRequest.
