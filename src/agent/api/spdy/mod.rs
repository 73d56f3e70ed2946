//! SPDY/3.1 as Kubernetes clients speak it: many streams over one connection, no flow control.
//!
//! The clients' library neither honours nor accepts WINDOW_UPDATE frames, so none is sent and those that
//! come are ignored; back-pressure is the connection's own.

mod dictionary;
pub(super) mod exec;
pub(super) mod forward;
mod frame;
mod headers;

pub(super) use frame::{Frame, Reader, Writer};
