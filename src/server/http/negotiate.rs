//! Which form of an answer the client wants.

use http::{HeaderMap, header};

use crate::api::Status;

/// The encoding of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    #[default]
    Json,
    Yaml,
}

/// What the objects of an answer are turned into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// As they are.
    #[default]
    Object,
    /// `meta.k8s.io` Table, `v1` or `v1beta1`.
    Table(&'static str),
    /// `meta.k8s.io` PartialObjectMetadata, of one object.
    Metadata(&'static str),
    /// `meta.k8s.io` PartialObjectMetadataList, of a list.
    MetadataList(&'static str),
}

/// The wanted form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) format: Format,
    pub(super) form: Form,
    pub(super) pretty: bool,
}

impl Format {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
        }
    }
}

const ACCEPTED: [&str; 2] = ["application/json", "application/yaml"];

/// One clause of an Accept header.
struct Clause<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl Clause<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }
}

fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut list: Vec<Clause<'_>> = accept
        .split(',')
        .filter_map(|clause| {
            let mut parts = clause.split(';').map(str::trim);
            let media = parts.next().filter(|m| !m.is_empty())?;
            let parameters: Vec<_> =
                parts.filter_map(|p| p.split_once('=')).map(|(k, v)| (k.trim(), v.trim())).collect();
            let quality = parameters.iter().find(|(k, _)| *k == "q").and_then(|(_, v)| v.parse().ok());
            Some(Clause { media, parameters, quality: quality.unwrap_or(1.0) })
        })
        .collect();
    list.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    list
}

fn accept(headers: &HeaderMap) -> String {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    values.collect::<Vec<_>>().join(",")
}

fn format_of(media: &str) -> Option<Format> {
    match media {
        "application/json" | "*/*" | "application/*" | "text/html" | "text/plain" => Some(Format::Json),
        "application/yaml" => Some(Format::Yaml),
        _ => None,
    }
}

fn form_of(clause: &Clause<'_>) -> Option<Form> {
    let version = |v: Option<&str>| match v {
        Some("v1") => Some("v1"),
        Some("v1beta1") => Some("v1beta1"),
        _ => None,
    };
    match clause.parameter("as") {
        None => Some(Form::Object),
        Some(_) if clause.parameter("g") != Some("meta.k8s.io") => None,
        Some("Table") => version(clause.parameter("v")).map(Form::Table),
        Some("PartialObjectMetadata") => version(clause.parameter("v")).map(Form::Metadata),
        Some("PartialObjectMetadataList") => version(clause.parameter("v")).map(Form::MetadataList),
        Some(_) => None,
    }
}

/// The first form of the Accept header that this server knows.
///
/// # Errors
/// 406 if there is none, as for clients that insist on Protocol Buffers.
pub(super) fn output(headers: &HeaderMap, pretty: Option<&str>) -> Result<Output, Status> {
    output_of(headers, pretty, form_of)
}

/// As [`output`] for what is no object of a table's rows and has no metadata: reviews, bindings.
///
/// # Errors
/// 406, also for clients that take nothing but another form.
pub(super) fn plain(headers: &HeaderMap, pretty: Option<&str>) -> Result<Output, Status> {
    output_of(headers, pretty, |clause| form_of(clause).filter(|form| *form == Form::Object))
}

fn output_of(
    headers: &HeaderMap,
    pretty: Option<&str>,
    form_of: impl Fn(&Clause<'_>) -> Option<Form>,
) -> Result<Output, Status> {
    let accept = accept(headers);
    let pretty = match pretty {
        Some(text) => text != "false" && text != "0",
        None => is_person(headers),
    };
    if accept.trim().is_empty() {
        return Ok(Output { pretty, ..Output::default() });
    }
    let found = clauses(&accept)
        .iter()
        .find_map(|c| Some((format_of(c.media)?, form_of(c)?, c.parameter("pretty") == Some("1"))));
    match found {
        Some((format, form, asked)) => Ok(Output { format, form, pretty: pretty || asked }),
        None => Err(Status::not_acceptable(&ACCEPTED)),
    }
}

/// The encoding of an error: any answer is better than none.
pub(super) fn error_format(headers: &HeaderMap) -> Format {
    output(headers, None).map(|o| o.format).unwrap_or_default()
}

/// Whether the client is one that people read the answers of, as upstream guesses.
fn is_person(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|name| agent.starts_with(name))
}

/// The version of the aggregated discovery document the client wants, if it wants one.
pub(super) fn aggregated_discovery(headers: &HeaderMap) -> Option<&'static str> {
    let accept = accept(headers);
    let list = clauses(&accept);
    for clause in &list {
        let wanted = clause.media == "application/json" || clause.media == "*/*";
        match (clause.parameter("as"), clause.parameter("v"), clause.parameter("g")) {
            (Some("APIGroupDiscoveryList"), Some("v2"), Some("apidiscovery.k8s.io")) if wanted => {
                return Some("v2");
            }
            (Some("APIGroupDiscoveryList"), Some("v2beta1"), Some("apidiscovery.k8s.io")) if wanted => {
                return Some("v2beta1");
            }
            (None, ..) if wanted => return None,
            _ => {}
        }
    }
    None
}

/// Whether the client takes gzip.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next() == Some("gzip") && !parts.any(|p| p == "q=0")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(accept: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        headers
    }

    fn outcome(accept: &str) -> Option<(Format, Form)> {
        output(&headers(accept), None).ok().map(|o| (o.format, o.form))
    }

    #[test]
    fn the_first_known_clause_wins() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(outcome(table), Some((Format::Json, Form::Table("v1"))));
        assert_eq!(
            outcome("application/json;as=Other;v=v1;g=x,application/json"),
            Some((Format::Json, Form::Object))
        );
        assert_eq!(outcome("application/yaml"), Some((Format::Yaml, Form::Object)));
        assert_eq!(outcome("application/json;q=0.5,application/yaml"), Some((Format::Yaml, Form::Object)));
        assert_eq!(outcome("*/*"), Some((Format::Json, Form::Object)));
        assert_eq!(outcome(""), Some((Format::Json, Form::Object)));
        let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        assert_eq!(outcome(metadata), Some((Format::Json, Form::MetadataList("v1"))));
    }

    #[test]
    fn reviews_have_no_other_form() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(plain(&headers(table), None).unwrap_err().code, 406);
        let both = plain(&headers(&format!("{table},application/json;pretty=1")), None).unwrap();
        assert_eq!((both.form, both.pretty), (Form::Object, true));
    }

    #[test]
    fn protocol_buffers_fall_back_or_fail() {
        let protobuf = "application/vnd.kubernetes.protobuf";
        assert_eq!(outcome(&format!("{protobuf},application/json")), Some((Format::Json, Form::Object)));
        assert_eq!(outcome(protobuf), None);
        assert_eq!(output(&headers(protobuf), None).unwrap_err().code, 406);
        assert_eq!(error_format(&headers(protobuf)), Format::Json);
    }

    #[test]
    fn discovery_is_aggregated_for_clients_that_know_it() {
        let kubectl = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
            application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(aggregated_discovery(&headers(kubectl)), Some("v2"));
        assert_eq!(aggregated_discovery(&headers("application/json")), None);
        assert_eq!(aggregated_discovery(&HeaderMap::new()), None);
    }

    #[test]
    fn gzip_is_asked_for() {
        let mut headers = HeaderMap::new();
        assert!(!takes_gzip(&headers));
        headers.insert(header::ACCEPT_ENCODING, "br, gzip;q=0.9".parse().unwrap());
        assert!(takes_gzip(&headers));
    }
}
