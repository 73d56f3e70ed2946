//! `PodLogOptions` of a request for a log, checked as upstream checks them.

use crate::api::{FieldError, GroupKind, Path, Status};
use crate::server::http::params::Params;

const STREAMS: [&str; 3] = ["All", "Stderr", "Stdout"];

/// What is wrong with the options.
///
/// # Errors
/// 400 for what is no number or time, 422 for values that are not allowed.
pub(super) fn check(params: &Params, pod: &str) -> Result<(), Status> {
    let mut errors = Vec::new();
    let tail: Option<i64> = params.number("tailLines")?;
    let seconds: Option<i64> = params.number("sinceSeconds")?;
    let limit: Option<i64> = params.number("limitBytes")?;
    if let Some(lines) = tail.filter(|n| *n < 0) {
        errors.push(FieldError::invalid(
            &Path::new("tailLines"),
            lines,
            "must be greater than or equal to 0",
        ));
    }
    if let Some(bytes) = limit.filter(|n| *n < 1) {
        errors.push(FieldError::invalid(&Path::new("limitBytes"), bytes, "must be greater than 0"));
    }
    let time = params.get("sinceTime").filter(|t| !t.is_empty());
    if let Some(time) = time
        && time.parse::<jiff::Timestamp>().is_err()
    {
        let why = "parsing time: it is not of the form 2006-01-02T15:04:05Z";
        return Err(Status::bad_request(format!("sinceTime {time:?}: {why}")));
    }
    match (seconds, time) {
        (Some(_), Some(_)) => {
            let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
            errors.push(FieldError::forbidden(&Path::new(""), why));
        }
        (Some(seconds), None) if seconds < 1 => {
            errors.push(FieldError::invalid(&Path::new("sinceSeconds"), seconds, "must be greater than 0"));
        }
        _ => {}
    }
    match params.get("stream").filter(|s| !s.is_empty()) {
        Some(stream) if !STREAMS.contains(&stream) => {
            errors.push(FieldError::not_supported(&Path::new("stream"), stream, &STREAMS));
        }
        Some(stream) if stream != "All" && tail.is_some() => {
            let why = "`tailLines` and specific `stream` are mutually exclusive for now";
            errors.push(FieldError::forbidden(&Path::new(""), why));
        }
        _ => {}
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Status::invalid(&GroupKind::new("", "PodLogOptions"), pod, &errors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_refused_in_upstreams_words() {
        let check = |query: &str| check(&Params::parse(&format!("/x?{query}").parse().unwrap()), "p");
        for good in
            ["", "tailLines=0", "limitBytes=1&sinceSeconds=1", "stream=Stderr", "stream=All&tailLines=1"]
        {
            assert!(check(good).is_ok(), "{good}");
        }
        for (query, wanted) in [
            ("tailLines=-1", "tailLines: Invalid value: -1: must be greater than or equal to 0"),
            ("limitBytes=0", "limitBytes: Invalid value: 0: must be greater than 0"),
            ("sinceSeconds=0", "sinceSeconds: Invalid value: 0: must be greater than 0"),
            (
                "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
                "at most one of `sinceTime` or `sinceSeconds` may be specified",
            ),
            (
                "stream=x",
                "stream: Unsupported value: \"x\": supported values: \"All\", \"Stderr\", \"Stdout\"",
            ),
            ("stream=Stdout&tailLines=1", "`tailLines` and specific `stream` are mutually exclusive for now"),
        ] {
            let status = check(query).unwrap_err();
            assert_eq!(status.code, 422, "{query}");
            assert!(status.message.starts_with("PodLogOptions \"p\" is invalid: "), "{status}");
            assert!(status.message.contains(wanted), "{status}");
        }
        assert_eq!(check("tailLines=x").unwrap_err().code, 400);
        assert_eq!(check("sinceTime=x").unwrap_err().code, 400);
    }
}
