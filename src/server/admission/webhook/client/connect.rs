//! New connections.

use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::error;
use super::pool::Connection;
use super::target::Address;

/// An address that does not answer for so long is given up for the next, if there is one.
const PATIENCE: Duration = Duration::from_secs(2);

/// Connects to the first of these addresses that answers.
///
/// # Errors
/// Why the last one failed.
pub(super) async fn connect(
    addresses: &[Address],
    server_name: &ServerName<'static>,
    tls: &Arc<ClientConfig>,
) -> Result<Connection, String> {
    let (address, tcp) = dial(addresses).await?;
    tcp.set_nodelay(true).map_err(|e| e.to_string())?;
    let connector = TlsConnector::from(Arc::clone(tls));
    let stream = connector.connect(server_name.clone(), tcp).await.map_err(|e| error::of_handshake(&e))?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|e| error::of_exchange(&e))?;
    // It ends when either side closes it: the pool drops senders.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to a webhook ended");
        }
    });
    Ok(Connection { address, sender })
}

async fn dial(addresses: &[Address]) -> Result<(Address, TcpStream), String> {
    let mut why = String::new();
    for (i, address) in addresses.iter().enumerate() {
        let connecting = TcpStream::connect((&*address.0, address.1));
        let last = i + 1 == addresses.len();
        let connected = if last {
            connecting.await
        } else {
            let late = || Err(std::io::ErrorKind::TimedOut.into());
            tokio::time::timeout(PATIENCE, connecting).await.unwrap_or_else(|_| late())
        };
        match connected {
            Ok(tcp) => return Ok((address.clone(), tcp)),
            Err(error) => why = error::of_dial(address, &error),
        }
    }
    Err(why)
}
