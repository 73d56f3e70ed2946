//! What went over network interfaces, by `/proc/net/dev`.

/// Interfaces that lead to nothing outside, as cAdvisor leaves them out.
const INNER: [&str; 4] = ["lo", "veth", "docker", "nerdctl"];

/// The counters of one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::agent) struct Interface {
    /// Its name.
    pub name: String,
    /// Received.
    pub received: Traffic,
    /// Sent.
    pub sent: Traffic,
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::agent) struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets with errors.
    pub errors: u64,
    /// Packets that were dropped.
    pub dropped: u64,
}

impl Interface {
    /// The other end of a pair of interfaces: what one sends the other receives.
    pub(super) fn peer(&self, name: &str) -> Self {
        Self { name: name.to_owned(), received: self.sent, sent: self.received }
    }

    /// Whether it leads outside.
    pub(super) fn is_outer(&self) -> bool {
        !INNER.iter().any(|inner| self.name.starts_with(inner))
    }
}

/// All interfaces of the host.
pub(super) fn read() -> Vec<Interface> {
    parse(&std::fs::read_to_string("/proc/net/dev").unwrap_or_default())
}

fn parse(text: &str) -> Vec<Interface> {
    let line = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters.split_whitespace().filter_map(|c| c.parse().ok()).collect();
        let traffic = |from: usize| {
            let at = |index: usize| counters.get(from + index).copied().unwrap_or(0);
            Traffic { bytes: at(0), packets: at(1), errors: at(2), dropped: at(3) }
        };
        Some(Interface { name: name.trim().to_owned(), received: traffic(0), sent: traffic(8) })
    };
    text.lines().filter_map(line).collect()
}

/// The interface of the default route, by the text of `/proc/net/route`.
pub(super) fn default_interface(routes: &str) -> Option<&str> {
    let mut lines = routes.lines().skip(1).map(|l| l.split_whitespace().collect::<Vec<_>>());
    lines.find(|l| l.get(1) == Some(&"00000000")).and_then(|l| l.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_and_turned_round() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n\
                    \x20   lo: 1 2 0 0 0 0 0 0 1 2 0 0 0 0 0 0\n  eth0: 10 11 12 13 0 0 0 0 20 21 22 23 0 0 0 0\n";
        let all = parse(text);
        assert_eq!(all.len(), 2);
        assert!(!all[0].is_outer() && all[1].is_outer());
        let received = Traffic { bytes: 10, packets: 11, errors: 12, dropped: 13 };
        assert_eq!(all[1].received, received);
        assert_eq!(all[1].peer("x").sent, received);
    }

    #[test]
    fn the_default_route_names_the_nodes_interface() {
        let text = "Iface\tDestination\tGateway\neth1\t000A0A0A\t0\neth0\t00000000\t010A0A0A\n";
        assert_eq!(default_interface(text), Some("eth0"));
        assert_eq!(default_interface("Iface\n"), None);
    }
}
