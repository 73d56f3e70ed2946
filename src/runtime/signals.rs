//! Signals by name, as images and people write them.

use nix::sys::signal::Signal;

use super::error::Error;

/// The number of `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`…
pub(crate) fn parse(name: &str) -> Result<i32, Error> {
    let unknown = || Error::Invalid(format!("unknown signal {name:?}"));
    if let Ok(number) = name.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    // The kernel's numbers, less the two that the C library keeps.
    for (base, start, sign) in [("RTMIN", 34, 1), ("RTMAX", 64, -1)] {
        let Some(rest) = short.strip_prefix(base) else {
            continue;
        };
        let offset = match rest.split_at_checked(1) {
            None => 0,
            Some(("+" | "-", digits)) => digits.parse::<i32>().map_err(|_| unknown())?,
            Some(_) => return Err(unknown()),
        };
        let number = start + sign * offset;
        return if (34..=64).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    format!("SIG{short}").parse::<Signal>().map(|s| s as i32).map_err(|_| unknown())
}

/// The signal's name: `SIGTERM`, `SIGRTMIN+3`.
pub(crate) fn name(number: i32) -> String {
    match (Signal::try_from(number), number) {
        (Ok(signal), _) => signal.as_str().to_owned(),
        (_, 34) => "SIGRTMIN".into(),
        (_, 64) => "SIGRTMAX".into(),
        (_, 35..=49) => format!("SIGRTMIN+{}", number - 34),
        _ => format!("SIGRTMAX-{}", 64 - number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (name, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("SIGQUIT", 3),
            ("SIGRTMIN+3", 37),
            ("RTMIN", 34),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(parse(name).unwrap(), number, "{name}");
        }
        for (number, text) in
            [(15, "SIGTERM"), (10, "SIGUSR1"), (34, "SIGRTMIN"), (37, "SIGRTMIN+3"), (63, "SIGRTMAX-1")]
        {
            assert_eq!((name(number).as_str(), parse(text).unwrap()), (text, number));
        }
        for bad in ["", "SIGNOPE", "0", "65", "RTMIN+99", "RTMIN*2", "RTMIN+x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
