//! Durations in the words of Go, as upstream's messages and fields have them.

use std::time::Duration;

/// A duration as Go prints it, in whole milliseconds: `850ms`, `1.2s`, `1m2.05s`, `1h0m0s`.
pub fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".into();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let fraction = format!("{:03}", rest % 1000);
    let seconds = match fraction.trim_end_matches('0') {
        "" => format!("{}s", rest / 1000),
        fraction => format!("{}.{fraction}s", rest / 1000),
    };
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (millis, text) in [
            (0, "0s"),
            (850, "850ms"),
            (1000, "1s"),
            (1200, "1.2s"),
            (1234, "1.234s"),
            (15_010, "15.01s"),
            (62_050, "1m2.05s"),
            (300_000, "5m0s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }
}
