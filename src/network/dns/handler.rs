//! From a question to its answer.

use std::sync::Arc;

use async_trait::async_trait;
use hickory_proto::op::{Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use rand::seq::SliceRandom;
use tokio::sync::watch;

use super::table::DnsTable;
use super::upstream::Upstream;
use super::zone::{Answer, Zone};

/// Bytes of a UDP answer that pass every network unfragmented (DNS Flag Day 2020).
const MAX_UDP: u16 = 1232;
/// Bytes every client takes (RFC 1035).
const MIN_UDP: u16 = 512;
/// How many names an alias may lead through.
const MAX_ALIASES: usize = 8;

/// Answers the questions of the cluster's pods.
pub struct Handler {
    zone: Zone,
    table: watch::Receiver<Arc<DnsTable>>,
    upstream: Upstream,
}

/// What is sent.
#[derive(Debug, Default)]
struct Response {
    code: Option<ResponseCode>,
    authoritative: bool,
    answers: Vec<Record>,
    extra: Vec<Record>,
    soa: Option<Record>,
}

impl Handler {
    /// Answers from the newest table, and from upstream.
    pub fn new(zone: Zone, table: watch::Receiver<Arc<DnsTable>>, upstream: Upstream) -> Self {
        Self { zone, table, upstream }
    }

    async fn respond(&self, request: &Request) -> Response {
        let refuse = |code| Response { code: Some(code), ..Response::default() };
        if request.metadata.op_code != OpCode::Query {
            return refuse(ResponseCode::NotImp);
        }
        let Ok(info) = request.request_info() else {
            return refuse(ResponseCode::FormErr);
        };
        if !matches!(info.query.query_class(), DNSClass::IN | DNSClass::ANY) {
            return refuse(ResponseCode::Refused);
        }
        self.resolve(Name::from(info.query.name()), info.query.query_type()).await
    }

    async fn resolve(&self, mut name: Name, kind: RecordType) -> Response {
        let mut response = Response { authoritative: true, ..Response::default() };
        for _ in 0..MAX_ALIASES {
            let table = Arc::clone(&self.table.borrow());
            match self.zone.answer(&table, &name, kind) {
                Answer::Records(mut answers, extra) => {
                    // Clients take the first: no endpoint is to be preferred.
                    answers.shuffle(&mut rand::rng());
                    response.answers.extend(answers);
                    response.extra = extra;
                    return response;
                }
                Answer::Alias(record, target) => {
                    response.answers.push(*record);
                    if kind == RecordType::CNAME {
                        return response;
                    }
                    name = target;
                }
                Answer::NoData => {
                    response.soa = Some(self.zone.soa());
                    return response;
                }
                Answer::NoName => {
                    response.code = Some(ResponseCode::NXDomain);
                    response.soa = Some(self.zone.soa());
                    return response;
                }
                Answer::Foreign => return self.forward(response, &name, kind).await,
            }
        }
        Response { code: Some(ResponseCode::ServFail), ..Response::default() }
    }

    /// Adds what the name servers of the node say.
    async fn forward(&self, mut response: Response, name: &Name, kind: RecordType) -> Response {
        let reply = self.upstream.ask(name, kind).await;
        response.authoritative = !response.answers.is_empty();
        response.answers.extend(reply.answers);
        response.code = reply.code;
        response.soa = reply.soa;
        response
    }
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut sender: R,
    ) -> ResponseInfo {
        let response = self.respond(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = response.authoritative;
        metadata.recursion_available = true;
        metadata.response_code = response.code.unwrap_or(ResponseCode::NoError);
        let mut edns = Edns::new();
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if request.edns.is_some() {
            edns.set_max_payload(request.max_payload().clamp(MIN_UDP, MAX_UDP)).set_version(0);
            builder.edns(&edns);
        }
        let message = builder.build(metadata, &response.answers, [], response.soa.as_ref(), &response.extra);
        match sender.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, client = %request.src(), "cannot answer a DNS question");
                let mut metadata = Metadata::new(request.metadata.id, MessageType::Response, OpCode::Query);
                metadata.response_code = ResponseCode::ServFail;
                Header { metadata, counts: HeaderCounts::default() }.into()
            }
        }
    }
}
