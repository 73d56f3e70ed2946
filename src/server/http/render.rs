//! Turns objects, lists and errors into answers.

use std::io::Write;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER, VARY, WARNING};
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};

use super::api::{Cx, Failure};
use super::body::{self, Body};
use super::indent::Indent;
use super::negotiate::{self, Form, Format, Output};
use super::table;
use crate::api::{Object, Reason, Status};
use crate::server::objects::Listed;
use crate::server::registry::Resource;

/// Answers of this size and more are compressed for those who take it, as upstream.
const GZIP_FROM: usize = 128 << 10;
/// Lists are written in pieces of this size.
const PIECE: usize = 64 << 10;

/// How the answer of a request is to look.
pub(super) fn output(cx: &Cx) -> Result<Output, Status> {
    negotiate::output(&cx.parts.headers, cx.params.get("pretty"))
}

/// The entry's form of a stored object.
pub(super) fn view(entry: &Resource, stored: Value) -> Value {
    entry.from_stored(stored)
}

/// One object.
pub(super) fn object(
    cx: &Cx,
    code: StatusCode,
    stored: Bytes,
    warnings: &[String],
) -> Result<Response<Body>, Failure> {
    let output = output(cx)?;
    let plain = output.form == Form::Object && cx.entry.is_stored_form();
    let mut response = if plain && output.format == Format::Json {
        let bytes = if output.pretty { Indent::default().piece(&stored) } else { stored };
        bytes_response(code, Format::Json, bytes, &cx.parts.headers)
    } else {
        let value: Value = serde_json::from_slice(&stored).map_err(Status::internal)?;
        let value = match output.form {
            Form::Object => view(&cx.entry, value),
            Form::Metadata(version) => table::partial(&view(&cx.entry, value), version),
            Form::MetadataList(_) => {
                let why = "you requested PartialObjectMetadataList, but the requested object is not a list";
                return Err(other_form(why, &cx.entry, "").into());
            }
            Form::Table(version) => table::of_one(cx, version, value)?,
        };
        value_response(code, output, &value, &cx.parts.headers)
    };
    add_warnings(&mut response, warnings);
    Ok(response)
}

/// A value that is no stored object: a review, a scale, a status.
pub(super) fn value(cx: &Cx, code: StatusCode, value: &Value) -> Result<Response<Body>, Failure> {
    let output = Output { form: Form::Object, ..output(cx)? };
    Ok(value_response(code, output, value, &cx.parts.headers))
}

/// A list.
pub(super) fn list(cx: &Cx, listed: Listed) -> Result<Response<Body>, Failure> {
    let output = output(cx)?;
    let metadata = list_metadata(&listed);
    let plain = output.form == Form::Object && cx.entry.is_stored_form();
    if plain && output.format == Format::Json {
        return Ok(streamed_list(cx, &metadata, listed.objects, output.pretty));
    }
    let values = listed.objects.iter().map(|o| o.value());
    let value = match output.form {
        Form::Object => {
            let items: Vec<Value> = values.map(|v| view(&cx.entry, v)).collect();
            list_value(&cx.entry.api_version(), &cx.entry.list_kind, metadata, items)
        }
        Form::Metadata(_) => {
            let why = "you requested PartialObjectMetadata, but the requested object is a list";
            return Err(other_form(why, &cx.entry, "List").into());
        }
        Form::MetadataList(version) => {
            let items: Vec<Value> = values.map(|v| table::partial(&view(&cx.entry, v), version)).collect();
            list_value(&format!("meta.k8s.io/{version}"), "PartialObjectMetadataList", metadata, items)
        }
        Form::Table(version) => table::of_many(cx, version, metadata, values)?,
    };
    Ok(value_response(StatusCode::OK, output, &value, &cx.parts.headers))
}

/// 406 with the name of upstream's type, such as `*core.PodList`.
fn other_form(why: &str, entry: &Resource, list: &str) -> Status {
    let package = match entry.group.split('.').next().unwrap_or_default() {
        "" | "events" => "core",
        first => first,
    };
    Status::new(406, Reason::NotAcceptable, format!("{why} (*{package}.{}{list})", entry.kind))
}

fn list_value(api_version: &str, kind: &str, metadata: Value, items: Vec<Value>) -> Value {
    json!({"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items})
}

fn list_metadata(listed: &Listed) -> Value {
    let mut metadata = json!({"resourceVersion": listed.revision.to_string()});
    if let Some(token) = &listed.continues {
        metadata["continue"] = json!(token);
    }
    if let Some(remaining) = listed.remaining {
        metadata["remainingItemCount"] = json!(remaining);
    }
    metadata
}

/// The stored bytes one after the other: nothing is decoded, and little is in memory twice.
fn streamed_list(cx: &Cx, metadata: &Value, objects: Vec<Arc<Object>>, pretty: bool) -> Response<Body> {
    let head = format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
        cx.entry.list_kind,
        cx.entry.api_version()
    );
    let size = head.len() + objects.iter().map(|o| o.bytes().len() + 1).sum::<usize>() + 3;
    let mut indent = pretty.then(Indent::default);
    let pieces = Pieces { head: Some(head), objects: objects.into_iter(), first: true, done: false }
        .map(move |piece| indent.as_mut().map_or(piece.clone(), |indent| indent.piece(&piece)));
    if size <= PIECE {
        let bytes: BytesMut = pieces.flatten().collect();
        return bytes_response(StatusCode::OK, Format::Json, bytes.freeze(), &cx.parts.headers);
    }
    if size >= GZIP_FROM && negotiate::takes_gzip(&cx.parts.headers) {
        let mut encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut pieces = pieces;
        let frames = std::iter::from_fn(move || next_gzip(&mut pieces, &mut encoder));
        let mut response = stream_response(frames);
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        return response;
    }
    stream_response(pieces)
}

fn next_gzip(
    pieces: &mut impl Iterator<Item = Bytes>,
    encoder: &mut Option<GzEncoder<Vec<u8>>>,
) -> Option<Bytes> {
    loop {
        let Some(piece) = pieces.next() else {
            // Writing to memory cannot fail; if it did, the stream would end short, which clients notice.
            return encoder.take()?.finish().ok().map(Bytes::from);
        };
        let gzip = encoder.as_mut()?;
        gzip.write_all(&piece).ok()?;
        if gzip.get_ref().len() >= PIECE {
            return Some(std::mem::take(gzip.get_mut()).into());
        }
    }
}

fn stream_response(pieces: impl Iterator<Item = Bytes> + Send + 'static) -> Response<Body> {
    let frames = futures::stream::iter(pieces.map(|p| Ok(Frame::data(p))));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Format::Json.content_type()));
    response
}

/// The text of a list, piece by piece.
struct Pieces {
    head: Option<String>,
    objects: std::vec::IntoIter<Arc<Object>>,
    first: bool,
    done: bool,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let mut piece = BytesMut::with_capacity(PIECE);
        if let Some(head) = self.head.take() {
            piece.extend_from_slice(head.as_bytes());
        }
        while piece.len() < PIECE - (4 << 10) {
            let Some(object) = self.objects.next() else {
                piece.extend_from_slice(b"]}\n");
                self.done = true;
                break;
            };
            if !std::mem::take(&mut self.first) {
                piece.extend_from_slice(b",");
            }
            piece.extend_from_slice(object.bytes());
        }
        Some(piece.freeze())
    }
}

/// A value in the wanted encoding.
pub(super) fn value_response(
    code: StatusCode,
    output: Output,
    value: &Value,
    headers: &HeaderMap,
) -> Response<Body> {
    let bytes = match output.format {
        Format::Json if output.pretty => format!("{value:#}\n").into_bytes(),
        Format::Json => value.to_string().into_bytes(),
        Format::Yaml => match serde_yaml::to_string(value) {
            Ok(text) => text.into_bytes(),
            Err(error) => return failure(&Status::internal(error).into(), headers),
        },
    };
    bytes_response(code, output.format, bytes.into(), headers)
}

/// Bytes that are encoded already.
pub(super) fn bytes_response(
    code: StatusCode,
    format: Format,
    bytes: Bytes,
    headers: &HeaderMap,
) -> Response<Body> {
    let gzip = bytes.len() >= GZIP_FROM && negotiate::takes_gzip(headers);
    let compressed = gzip.then(|| gzip_of(&bytes)).flatten();
    let is_gzip = compressed.is_some();
    let mut response = Response::new(body::full(compressed.unwrap_or(bytes)));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    if is_gzip {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    response
}

fn gzip_of(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

/// Plain text.
pub(super) fn text(code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(text));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// The one place where errors become answers.
pub(super) fn failure(failure: &Failure, headers: &HeaderMap) -> Response<Body> {
    let status = &failure.status;
    let mut value = status.to_value();
    if let Some(token) = &failure.continues {
        value["metadata"]["continue"] = json!(token);
    }
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let format = negotiate::error_format(headers);
    let bytes = match format {
        Format::Json => value.to_string(),
        Format::Yaml => serde_yaml::to_string(&value).unwrap_or_else(|_| value.to_string()),
    };
    let mut response = bytes_response(code, format, bytes.into(), headers);
    let seconds = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if seconds > 0 {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// All warnings of an answer have this many characters at most; when they have more, each is cut.
const WARNINGS_MAX: usize = 4 << 10;
const WARNING_CUT: usize = 256;

/// Adds `Warning` headers (RFC 9111 and its predecessor, section 5.5), each once.
pub(super) fn add_warnings(response: &mut Response<Body>, warnings: &[String]) {
    let distinct: Vec<&String> =
        warnings.iter().enumerate().filter(|(i, w)| !warnings[..*i].contains(w)).map(|(_, w)| w).collect();
    let cut = distinct.iter().map(|w| w.chars().count()).sum::<usize>() > WARNINGS_MAX;
    let mut written = 0;
    for warning in distinct.into_iter().filter(|w| !w.is_empty()) {
        if cut && written >= WARNINGS_MAX {
            break;
        }
        let kept = warning.chars().take(if cut { WARNING_CUT } else { usize::MAX });
        let clean: String = kept.map(|c| if c.is_control() { ' ' } else { c }).collect();
        written += clean.chars().count();
        let quoted = clean.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[tokio::test]
    async fn large_answers_are_compressed_for_those_who_take_it() {
        let mut headers = HeaderMap::new();
        let large = Bytes::from(vec![b'a'; GZIP_FROM]);
        let plain = bytes_response(StatusCode::OK, Format::Json, large.clone(), &headers);
        assert!(plain.headers().get(CONTENT_ENCODING).is_none());
        headers.insert(http::header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        let packed = bytes_response(StatusCode::OK, Format::Json, large.clone(), &headers);
        let bytes = packed.into_body().collect().await.unwrap().to_bytes();
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut text).unwrap();
        assert_eq!(text, large);
    }

    #[test]
    fn warnings_are_quoted_and_sent_once() {
        let mut response = Response::new(body::empty());
        add_warnings(&mut response, &["a \"b\"\n".into(), "a \"b\"\n".into(), "ü".into()]);
        let sent: Vec<_> =
            response.headers().get_all(WARNING).iter().map(|v| v.as_bytes().to_vec()).collect();
        assert_eq!(sent, [b"299 - \"a \\\"b\\\" \"".to_vec(), "299 - \"ü\"".as_bytes().to_vec()]);
    }

    #[test]
    fn many_warnings_are_cut() {
        let mut response = Response::new(body::empty());
        let long: Vec<String> = (0..40).map(|i| format!("{i:02}{}", "a".repeat(500))).collect();
        add_warnings(&mut response, &long);
        let sent: Vec<_> = response.headers().get_all(WARNING).iter().map(HeaderValue::len).collect();
        assert_eq!(sent, vec![WARNING_CUT + "299 - \"\"".len(); WARNINGS_MAX / WARNING_CUT]);
    }

    #[test]
    fn errors_tell_when_to_come_back() {
        let response = failure(&Status::too_many_requests("later", 3).into(), &HeaderMap::new());
        assert_eq!(
            (response.status().as_u16(), &response.headers()[RETRY_AFTER]),
            (429, &HeaderValue::from(3))
        );
    }
}
