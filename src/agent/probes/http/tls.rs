//! TLS of probes and hooks: certificates are not verified, as in kubelet.

use std::sync::{Arc, OnceLock};

use tokio_rustls::TlsConnector;

use crate::client::tls::{self, Anyone};

/// A connector that takes any certificate.
pub(super) fn connector() -> &'static TlsConnector {
    static CONNECTOR: OnceLock<TlsConnector> = OnceLock::new();
    CONNECTOR.get_or_init(|| {
        let config = tls::config(Anyone).expect("ring supports the default protocol versions");
        TlsConnector::from(Arc::new(config.with_no_client_auth()))
    })
}

/// Whether the other side does not speak TLS at all.
pub(super) fn speaks_plainly(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidMessage(_)))
}
