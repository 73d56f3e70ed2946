//! Sets of indexes as jobs write them: `1,3-5,7`.

/// Why a text is no such set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a number.
    #[error("cannot convert string to integer for index: {0:?}")]
    NotANumber(String),
    /// More than one dash.
    #[error(
        "the fragment {0:?} violates the requirement that an index interval can have at most two parts separated by '-'"
    )]
    Parts(String),
    /// Beyond the completions.
    #[error("too large index: {0:?}")]
    TooLarge(String),
    /// An interval of none or one.
    #[error("non-increasing order, previous: {0}, current: {1}")]
    NotIncreasing(i64, i64),
}

/// The intervals of a set, both ends inclusive, of indexes below `completions`: `validateIndexesFormat`.
///
/// # Errors
/// In upstream's words.
pub fn parse(text: &str, completions: i64) -> Result<Vec<(i64, i64)>, Error> {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    if text.is_empty() {
        return Ok(ranges);
    }
    let number = |part: &str| {
        let n: i64 = part.parse().map_err(|_| Error::NotANumber(part.to_owned()))?;
        if n >= completions { Err(Error::TooLarge(part.to_owned())) } else { Ok(n) }
    };
    for fragment in text.split(',') {
        let parts: Vec<&str> = fragment.split('-').collect();
        let (low, high) = match parts.as_slice() {
            [one] => (number(one)?, None),
            [low, high] => (number(low)?, Some(number(high)?)),
            _ => return Err(Error::Parts(fragment.to_owned())),
        };
        if let Some((_, last)) = ranges.last().filter(|(_, last)| *last >= low) {
            return Err(Error::NotIncreasing(*last, low));
        }
        if let Some(high) = high.filter(|high| *high <= low) {
            return Err(Error::NotIncreasing(low, high));
        }
        ranges.push((low, high.unwrap_or(low)));
    }
    Ok(ranges)
}

/// How many indexes these are.
pub fn total(ranges: &[(i64, i64)]) -> i64 {
    ranges.iter().map(|(low, high)| high - low + 1).sum()
}

/// The first index that is in both.
pub fn overlap(one: &[(i64, i64)], other: &[(i64, i64)]) -> Option<i64> {
    let pairs = one.iter().flat_map(|a| other.iter().map(move |b| (a.0.max(b.0), a.1.min(b.1))));
    pairs.filter(|(low, high)| low <= high).map(|(low, _)| low).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_read() {
        assert_eq!(parse("", 5), Ok(vec![]));
        let set = parse("1,3-5,7", 8).unwrap();
        assert_eq!((set.as_slice(), total(&set)), ([(1, 1), (3, 5), (7, 7)].as_slice(), 5));
        assert_eq!(overlap(&set, &[(2, 2), (4, 9)]), Some(4));
        assert_eq!(overlap(&set, &[(2, 2), (6, 6)]), None);
        for (bad, why) in [
            ("a", "cannot convert string to integer for index: \"a\""),
            ("9", "too large index: \"9\""),
            ("3,1", "non-increasing order, previous: 3, current: 1"),
            ("3-3", "non-increasing order, previous: 3, current: 3"),
            (
                "1-2-3",
                "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'",
            ),
        ] {
            assert_eq!(parse(bad, 8).unwrap_err().to_string(), why, "{bad}");
        }
    }
}
