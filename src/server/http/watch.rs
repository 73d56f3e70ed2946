//! `watch`: a stream of events that ends when the client, the time or the ring does.
//!
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::api::{Answer, Api, Cx};
use super::body::{Body, BoxError};
use super::negotiate::{Form, Format};
use super::render;
use super::table::{self, Include};
use crate::api::object::SelectableField;
use crate::api::{Object, Status};
use crate::server::cache::{Event, EventType, Expired, Watcher, event_frame, with_revision};
use crate::server::objects::ListOptions;
use crate::server::registry::{Clock, Resource};
use crate::store::Revision;

/// A watch of a client that names no time ends after this and up to as much again.
const MIN_TIMEOUT: u64 = 1800;
/// The longest a client may ask for, in seconds: a year.
const MAX_TIMEOUT: u64 = 365 * 24 * 60 * 60;
/// How often a client is told how far the stream has come.
const BOOKMARK: Duration = Duration::from_secs(60);
/// Events are put together into frames of about this size.
const FRAME: usize = 32 << 10;
/// What a bookmark that ends the initial events is annotated with.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// Starts a watch.
pub(super) fn start(api: &Api, cx: &Cx, options: ListOptions) -> Answer {
    let output = render::output(cx)?;
    if output.format != Format::Json {
        return Err(Status::not_acceptable(&["application/json"]).into());
    }
    let kind = api.objects.kind(&cx.stored)?;
    options.check_fields(&cx.stored)?;
    let scope = options.scope(cx.entry.namespaced, cx.namespace());
    let initial = cx.params.has("sendInitialEvents").then(|| cx.params.flag("sendInitialEvents"));
    let bookmarks = cx.params.flag("allowWatchBookmarks");
    let revision = options.revision.filter(|r| *r != 0);
    // A watch of no revision begins with what there is, as one that asks for it.
    let begins_with_all = initial.unwrap_or(revision.is_none());
    if begins_with_all {
        api.objects.check_reached(revision.unwrap_or(0))?;
    }
    let (first, watcher) = match revision.filter(|_| !begins_with_all).map(|r| kind.watch(r, scope.clone())) {
        Some(Ok(watcher)) => (Vec::new(), watcher),
        // Upstream tells of it in the stream, too.
        Some(Err(expired)) => return Ok(stream_of(futures::stream::iter([error_frame(expired)]))),
        None => {
            let (page, watcher) = kind.list_and_watch(scope);
            let objects = page.objects.into_iter().map(|(_, object)| object);
            (objects.filter(|_| begins_with_all).collect(), watcher)
        }
    };
    let seconds = match cx.params.number::<u64>("timeoutSeconds")? {
        Some(seconds) if seconds > 0 => seconds.min(MAX_TIMEOUT),
        _ => MIN_TIMEOUT + rand::random_range(0..MIN_TIMEOUT),
    };
    let now = Instant::now();
    let stream = Stream {
        encoder: Encoder::new(cx, output.form)?,
        fields: kind.fields().to_vec(),
        options,
        after: revision.unwrap_or(0),
        sent: watcher.revision(),
        watcher,
        first: first.into(),
        initial_end: begins_with_all && bookmarks,
        bookmarks,
        next_bookmark: now + BOOKMARK,
        deadline: now + Duration::from_secs(seconds),
        ended: false,
    };
    let frames = futures::stream::unfold(stream, |mut stream| async move {
        let frame = stream.next().await?;
        Some((frame, stream))
    });
    Ok(stream_of(frames))
}

fn stream_of(frames: impl futures::Stream<Item = Bytes> + Send + 'static) -> http::Response<Body> {
    let frames = frames.map(|frame| Ok::<_, BoxError>(Frame::data(frame)));
    let mut response = http::Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

struct Stream {
    encoder: Encoder,
    fields: Vec<SelectableField>,
    options: ListOptions,
    watcher: Watcher,
    /// What is there at the start and not sent yet.
    first: VecDeque<Arc<Object>>,
    /// A bookmark is to follow what is there at the start.
    initial_end: bool,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    /// Where the client said to begin, which may be yet to come.
    after: Revision,
    /// The newest revision the client knows of.
    sent: Revision,
    ended: bool,
}

impl Stream {
    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.ended {
                return None;
            }
            if let Some(frame) = self.next_initial() {
                return Some(frame);
            }
            tokio::select! {
                biased;
                events = self.watcher.next() => match events {
                    Ok(events) => {
                        if let Some(frame) = self.encode(&events) {
                            return Some(frame);
                        }
                    }
                    Err(expired) => {
                        self.ended = true;
                        return Some(error_frame(expired));
                    }
                },
                () = sleep_until(self.next_bookmark), if self.bookmarks => {
                    self.next_bookmark = Instant::now() + BOOKMARK;
                    let revision = self.watcher.revision();
                    if revision > self.sent {
                        self.sent = revision;
                        return Some(self.encoder.bookmark(revision, false));
                    }
                }
                () = sleep_until(self.deadline) => return None,
            }
        }
    }

    fn next_initial(&mut self) -> Option<Bytes> {
        let mut frame = BytesMut::new();
        while frame.len() < FRAME {
            let Some(object) = self.first.pop_front() else { break };
            if self.options.selects(&object, &self.fields) {
                frame.extend_from_slice(&self.encoder.frame(EventType::Added, object.bytes()));
            }
        }
        if !frame.is_empty() {
            return Some(frame.freeze());
        }
        std::mem::take(&mut self.initial_end).then(|| self.encoder.bookmark(self.sent, true))
    }

    fn encode(&mut self, events: &[Arc<Event>]) -> Option<Bytes> {
        let mut all = BytesMut::new();
        let mut only: Option<Bytes> = None;
        let after = self.after;
        for event in events.iter().filter(|event| event.revision > after) {
            self.sent = event.revision;
            let Some(frame) = self.encode_one(event) else { continue };
            match only.take() {
                None if all.is_empty() => only = Some(frame),
                None => all.extend_from_slice(&frame),
                Some(before) => {
                    all.extend_from_slice(&before);
                    all.extend_from_slice(&frame);
                }
            }
        }
        only.or_else(|| (!all.is_empty()).then(|| all.freeze()))
    }

    /// What an event is to this watch: an object that comes to match, or matches no longer, appears or
    /// goes away for it.
    fn encode_one(&mut self, event: &Event) -> Option<Bytes> {
        let selects = |object: &Object| self.options.selects(object, &self.fields);
        let before = event.previous.as_deref().is_some_and(selects);
        let now = event.kind != EventType::Deleted && selects(&event.object);
        let kind = match (before, now) {
            (false, true) => EventType::Added,
            (true, true) => EventType::Modified,
            (true, false) => EventType::Deleted,
            (false, false) => return None,
        };
        if kind == event.kind && self.encoder.is_plain() {
            return Some(event.frame());
        }
        match (&event.previous, kind == EventType::Deleted && event.kind != EventType::Deleted) {
            // It goes away as the client knew it, at the revision of the change.
            (Some(previous), true) => {
                Some(self.encoder.frame(kind, &with_revision(previous.bytes(), event.revision)))
            }
            _ => Some(self.encoder.frame(kind, event.object.bytes())),
        }
    }
}

/// Writes events in the form the client asked for.
struct Encoder {
    entry: Arc<Resource>,
    form: Form,
    include: Include,
    /// The titles of a table were sent.
    titled: bool,
}

impl Encoder {
    fn new(cx: &Cx, form: Form) -> Result<Self, Status> {
        let titled = cx.params.flag("noHeaders");
        Ok(Self { entry: Arc::clone(&cx.entry), form, include: Include::of(cx)?, titled })
    }

    /// Whether events go out as they are stored.
    fn is_plain(&self) -> bool {
        self.form == Form::Object && self.entry.is_stored_form()
    }

    fn frame(&mut self, kind: EventType, stored: &[u8]) -> Bytes {
        if self.is_plain() {
            return event_frame(kind, stored);
        }
        let Ok(value) = serde_json::from_slice::<Value>(stored) else { return Bytes::new() };
        let object = match self.form {
            Form::Object => render::view(&self.entry, value),
            Form::Metadata(version) | Form::MetadataList(version) => {
                table::partial(&render::view(&self.entry, value), version)
            }
            Form::Table(version) => {
                let metadata = json!({"resourceVersion": value["metadata"]["resourceVersion"]});
                let row = table::row(&self.entry, value, version, self.include, &Clock(Timestamp::now()));
                table::table(version, metadata, self.titles(), vec![row])
            }
        };
        event_frame(kind, object.to_string().as_bytes())
    }

    fn titles(&mut self) -> Value {
        if std::mem::replace(&mut self.titled, true) { Value::Null } else { table::definitions(&self.entry) }
    }

    fn bookmark(&mut self, revision: Revision, initial_end: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({INITIAL_END: "true"});
        }
        let object = match self.form {
            Form::Object => {
                json!({"kind": self.entry.kind, "apiVersion": self.entry.api_version(), "metadata": metadata})
            }
            Form::Metadata(version) | Form::MetadataList(version) => {
                table::partial(&json!({"metadata": metadata}), version)
            }
            Form::Table(version) => {
                let row =
                    json!({"cells": [], "object": table::partial(&json!({"metadata": metadata}), version)});
                let titles = self.titles();
                table::table(version, json!({"resourceVersion": revision.to_string()}), titles, vec![row])
            }
        };
        format!("{{\"type\":\"BOOKMARK\",\"object\":{object}}}\n").into()
    }
}

fn error_frame(expired: Expired) -> Bytes {
    let status = Status::too_old(expired.requested, expired.oldest).to_value();
    format!("{{\"type\":\"ERROR\",\"object\":{status}}}\n").into()
}
