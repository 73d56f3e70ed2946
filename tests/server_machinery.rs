//! The machinery of the API, request by request, against what upstream's documents and handlers say: revisions,
//! pages, watches, forms of answers, options, errors.

mod server_support;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use kedge::server::auth::User;
use serde_json::{Value, json};
use server_support::TestServer;
use tower::ServiceExt;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// An answer.
struct Answer {
    code: u16,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// One line a watch event.
    fn events(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    fn warnings(&self) -> Vec<&str> {
        self.headers.get_all("warning").iter().map(|v| v.to_str().unwrap()).collect()
    }
}

struct Api(TestServer);

impl Api {
    async fn start() -> Self {
        Self(TestServer::start().await)
    }

    /// The same after a restart: what happened before is forgotten.
    async fn restarted(self) -> Self {
        Self(self.0.restart().await)
    }

    async fn send(&self, method: &str, uri: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(uri.replace(' ', "%20"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(kube::client::Body::from(body.as_bytes().to_vec())).unwrap();
        let response = self.0.server.service_as(User::loopback()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { code: parts.status.as_u16(), headers: parts.headers, bytes }
    }

    async fn get(&self, uri: &str, accept: &str) -> Answer {
        self.send("GET", uri, &[("accept", accept)], "").await
    }

    async fn post(&self, uri: &str, body: Value) -> Value {
        let answer = self.send("POST", uri, &[("content-type", "application/json")], &body.to_string()).await;
        assert_eq!(answer.code, 201, "{}", answer.text());
        answer.json()
    }

    async fn patch(&self, uri: &str, kind: &str, body: &str) -> Answer {
        self.send("PATCH", uri, &[("content-type", &format!("application/{kind}"))], body).await
    }

    async fn map(&self, name: &str) -> Value {
        self.post(MAPS, json!({"metadata": {"name": name, "labels": {"of": "us"}}})).await
    }
}

fn revision(value: &Value) -> u64 {
    value["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn revisions_of_lists_mean_what_upstreams_table_says() {
    let api = Api::start().await;
    let first = revision(&api.map("a").await);
    let second = revision(&api.map("b").await);
    let list = |query: String| {
        let api = &api;
        async move { api.get(&format!("{MAPS}?labelSelector=of&{query}"), "*/*").await }
    };
    for (query, wanted) in [
        (String::new(), &["a", "b"][..]),
        ("resourceVersion=0".into(), &["a", "b"]),
        (format!("resourceVersion={first}"), &["a", "b"]),
        (format!("resourceVersion={first}&resourceVersionMatch=NotOlderThan"), &["a", "b"]),
        ("resourceVersion=0&resourceVersionMatch=NotOlderThan".into(), &["a", "b"]),
        (format!("resourceVersion={first}&resourceVersionMatch=Exact"), &["a"]),
        (format!("resourceVersion={second}&resourceVersionMatch=Exact&limit=1"), &["a"]),
    ] {
        let answer = list(query.clone()).await;
        assert_eq!((answer.code, &names(&answer.json())[..]), (200, wanted), "{query}");
        if query.contains("Exact") {
            assert!(query.contains(&format!("resourceVersion={}", revision(&answer.json()))), "{query}");
        }
    }
    let far = second + 1_000_000;
    for (query, code, text) in [
        (
            "resourceVersion=x".into(),
            400,
            "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
        ("limit=x".into(), 400, "strconv.ParseInt: parsing \"x\": invalid syntax"),
        (
            "resourceVersionMatch=Exact".into(),
            422,
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            "resourceVersionMatch=Other&resourceVersion=1".into(),
            422,
            "resourceVersionMatch: Unsupported value: \"Other\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
        ),
        (
            "resourceVersionMatch=Exact&resourceVersion=0".into(),
            422,
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ),
        (
            "sendInitialEvents=true".into(),
            422,
            "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
        ),
        (format!("resourceVersion={far}"), 504, "Too large resource version"),
        (
            "fieldSelector=data.x=1".into(),
            400,
            "\"data.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        ),
        ("fieldSelector=x".into(), 400, "invalid selector: 'x'; can't understand 'x'"),
    ] as [(String, u16, &str); 9]
    {
        let answer = list(query.clone()).await;
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(answer.code == code && message.contains(text), "{query}: {} {message}", answer.code);
    }
    let answer = list(format!("resourceVersion={far}")).await.json();
    assert_eq!(answer["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    assert_eq!(answer["details"]["retryAfterSeconds"], 1);
    let jobs = api.get("/apis/batch/v1/jobs?fieldSelector=spec.x=1", "*/*").await;
    assert_eq!(jobs.json()["message"], "field label \"spec.x\" not supported for Job");
    let pods = api.get("/api/v1/pods?fieldSelector=spec.x=1", "*/*").await;
    assert_eq!(pods.json()["message"], "field label not supported: spec.x");
    assert_eq!(api.get(&format!("{MAPS}/a?resourceVersion={first}"), "*/*").await.code, 200);
    assert_eq!(api.get(&format!("{MAPS}/a?resourceVersion={far}"), "*/*").await.code, 504);
    let api = api.restarted().await;
    let old = api.get(&format!("{MAPS}?resourceVersion={first}&resourceVersionMatch=Exact"), "*/*").await;
    assert_eq!(
        (old.code, old.json()["message"].as_str().unwrap()),
        (410, "The resourceVersion for the provided list is too old.")
    );
    assert_eq!(api.get(&format!("{MAPS}?resourceVersion={first}"), "*/*").await.code, 200);
}

#[tokio::test]
async fn pages_are_of_one_revision_and_an_expired_token_goes_on() {
    let api = Api::start().await;
    for name in ["a", "b", "c", "d"] {
        api.map(name).await;
    }
    let first = api.get(&format!("{MAPS}?limit=2"), "*/*").await.json();
    assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["a", "b"], &json!(2)));
    api.map("ba").await;
    api.send("DELETE", &format!("{MAPS}/d"), &[], "").await;
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    let rest = api.get(&format!("{MAPS}?limit=9&continue={token}"), "*/*").await.json();
    assert_eq!((names(&rest), revision(&rest)), (vec!["c", "d"], revision(&first)));
    assert_eq!(
        (&rest["metadata"]["continue"], &rest["metadata"]["remainingItemCount"]),
        (&Value::Null, &Value::Null)
    );
    let both = api.get(&format!("{MAPS}?continue={token}&resourceVersion=7"), "*/*").await;
    assert_eq!(both.json()["message"], "specifying resource version is not allowed when using continue");
    let content: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&token).unwrap()).unwrap();
    assert_eq!((&content["v"], &content["start"]), (&json!("meta.k8s.io/v1"), &json!("default/b\0")));
    let api = api.restarted().await;
    let gone = api.get(&format!("{MAPS}?limit=1&continue={token}"), "*/*").await;
    let status = gone.json();
    assert_eq!((gone.code, &status["reason"]), (410, &json!("Expired")));
    assert!(status["message"].as_str().unwrap().starts_with("The provided continue parameter is too old"));
    let token = status["metadata"]["continue"].as_str().unwrap();
    let rest = api.get(&format!("{MAPS}?continue={token}"), "*/*").await.json();
    assert_eq!(names(&rest), ["ba", "c"]);
    let selected = api.get(&format!("{MAPS}?limit=1&labelSelector=of"), "*/*").await.json();
    assert_eq!(selected["metadata"]["remainingItemCount"], Value::Null);
}

#[tokio::test]
async fn watches_begin_where_they_should() {
    let api = Api::start().await;
    let first = revision(&api.map("a").await);
    api.map("b").await;
    let watch = |query: String, accept: &'static str| {
        let api = &api;
        async move { api.get(&format!("{MAPS}?watch=1&timeoutSeconds=1&labelSelector=of&{query}"), accept).await }
    };
    let types = |answer: &Answer| {
        let of = |e: &Value| e["type"].as_str().unwrap().to_owned();
        answer.events().iter().map(of).collect::<Vec<_>>()
    };
    for (query, wanted) in [
        (String::new(), &["ADDED", "ADDED"][..]),
        ("resourceVersion=0".into(), &["ADDED", "ADDED"]),
        (format!("resourceVersion={first}"), &["ADDED"]),
        ("allowWatchBookmarks=true".into(), &["ADDED", "ADDED", "BOOKMARK"]),
        (
            "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true".into(),
            &["ADDED", "ADDED", "BOOKMARK"],
        ),
        ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan".into(), &["ADDED", "ADDED"]),
        (
            format!("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion={first}"),
            &["ADDED", "ADDED"],
        ),
        ("sendInitialEvents=false&resourceVersionMatch=NotOlderThan".into(), &[]),
        ("resourceVersion=99999999".into(), &[]),
    ] {
        let answer = watch(query.clone(), "*/*").await;
        assert_eq!(
            (answer.code, types(&answer)),
            (200, wanted.iter().map(ToString::to_string).collect()),
            "{query}"
        );
        assert_eq!(answer.header("content-type"), "application/json");
    }
    let initial = watch("allowWatchBookmarks=true".into(), "*/*").await.events();
    let bookmark = &initial[2]["object"];
    assert_eq!(bookmark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!((&bookmark["kind"], &bookmark["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    for (query, code) in [
        ("resourceVersionMatch=NotOlderThan", 422),
        ("sendInitialEvents=true", 422),
        ("resourceVersion=x", 400),
        ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=99999999", 504),
    ] {
        assert_eq!(watch(query.into(), "*/*").await.code, code, "{query}");
    }
    assert_eq!(watch(String::new(), "application/yaml").await.code, 406);
    // What is too old is told in the stream.
    let api = api.restarted().await;
    let old = api.get(&format!("{MAPS}?watch=1&resourceVersion={first}"), "*/*").await;
    let status = &old.events()[0];
    assert_eq!((old.code, &status["type"], &status["object"]["code"]), (200, &json!("ERROR"), &json!(410)));
    let message = status["object"]["message"].as_str().unwrap();
    assert!(message.starts_with(&format!("too old resource version: {first} (")), "{message}");
}

#[tokio::test]
async fn watches_come_as_tables_and_as_metadata() {
    let api = Api::start().await;
    api.map("a").await;
    api.map("b").await;
    let watch = format!("{MAPS}?watch=1&timeoutSeconds=1&labelSelector=of&allowWatchBookmarks=1");
    let events = api.get(&watch, TABLE).await.events();
    let titles: Vec<bool> = events.iter().map(|e| e["object"]["columnDefinitions"].is_array()).collect();
    assert_eq!(titles, [true, false, false], "{events:?}");
    assert_eq!(events[1]["object"]["rows"][0]["cells"][0], "b");
    let bookmark = &events[2]["object"]["rows"][0]["object"];
    assert_eq!(bookmark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let partial = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    for event in api.get(&watch, partial).await.events() {
        assert_eq!(event["object"]["kind"], "PartialObjectMetadata", "{event}");
        assert_eq!(event["object"]["apiVersion"], "meta.k8s.io/v1");
    }
    let bare =
        api.get(&format!("{MAPS}?labelSelector=of&includeObject=None&noHeaders=true"), TABLE).await.json();
    assert_eq!((&bare["columnDefinitions"], &bare["rows"][0]["object"]), (&Value::Null, &Value::Null));
    let wrong = api.get(&format!("{MAPS}?includeObject=x"), TABLE).await;
    assert_eq!(
        (wrong.code, wrong.json()["message"].as_str().unwrap()),
        (
            400,
            "Unable to convert to Table as requested: includeObject: Invalid value: \"x\": must be 'Metadata', 'Object', 'None', or empty"
        )
    );
}

#[tokio::test]
async fn answers_come_in_the_form_the_client_accepts() {
    let api = Api::start().await;
    api.map("a").await;
    let one = format!("{MAPS}/a");
    let list = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let single = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    assert_eq!(api.get(MAPS, list).await.json()["kind"], "PartialObjectMetadataList");
    assert_eq!(api.get(&one, single).await.json()["kind"], "PartialObjectMetadata");
    for (uri, accept, text) in [
        (
            MAPS,
            single,
            "you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)",
        ),
        (
            &one,
            list,
            "you requested PartialObjectMetadataList, but the requested object is not a list (*core.ConfigMap)",
        ),
        (
            MAPS,
            "application/vnd.kubernetes.protobuf",
            "only the following media types are accepted: application/json",
        ),
        (
            MAPS,
            "application/json;as=Table;v=v9;g=meta.k8s.io",
            "only the following media types are accepted: ",
        ),
    ] {
        let answer = api.get(uri, accept).await;
        let status = answer.json();
        assert_eq!((answer.code, &status["reason"]), (406, &json!("NotAcceptable")), "{status}");
        assert!(status["message"].as_str().unwrap().starts_with(text), "{status}");
    }
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}).to_string();
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let headers = [("accept", TABLE), ("content-type", "application/json")];
    assert_eq!(api.send("POST", reviews, &headers, &review).await.code, 406);
    assert!(api.get(&one, "application/yaml").await.text().starts_with("apiVersion: v1\n"));
    let pretty = api.get(&format!("{one}?pretty=true"), "*/*").await.text();
    assert!(pretty.starts_with("{\n  \"apiVersion\": \"v1\",\n  \"kind\""), "{pretty}");
    let plain = api.get(&one, "*/*").await;
    assert_eq!(serde_json::from_str::<Value>(&pretty).unwrap(), plain.json());
    let curl = api.send("GET", MAPS, &[("user-agent", "curl/8")], "").await;
    assert!(curl.text().starts_with("{\n  \"kind\": \"ConfigMapList\",\n"), "{}", curl.text());
    let media = [("content-type", "image/png")];
    let refused = api.send("POST", MAPS, &media, "x").await;
    assert_eq!((refused.code, &refused.json()["reason"]), (415, &json!("UnsupportedMediaType")));
    assert_eq!(api.patch(&one, "json", "{}").await.code, 415);
    // A large list is compressed for those who ask, pretty or not.
    let data = json!({"metadata": {"name": "large"}, "data": {"x": "y".repeat(200_000)}});
    api.post(MAPS, data).await;
    for uri in [MAPS.to_owned(), format!("{MAPS}?pretty=1"), format!("{MAPS}/large")] {
        let packed = api.send("GET", &uri, &[("accept-encoding", "gzip")], "").await;
        assert_eq!((packed.header("content-encoding"), packed.bytes.len() < 20_000), ("gzip", true), "{uri}");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&packed.bytes[..]), &mut text)
            .unwrap();
        let (packed, plain): (Value, _) =
            (serde_json::from_str(&text).unwrap(), api.get(&uri, "*/*").await.json());
        // A list's own revision goes on with other writes.
        let same = packed["items"] == plain["items"] && packed["data"] == plain["data"];
        assert!(same && text.contains("yyyy"), "{uri}");
    }
}

#[tokio::test]
async fn paths_and_methods_that_are_not_served() {
    let api = Api::start().await;
    for uri in ["/nosuch", "/apis/nosuch.io/v1/things", "/api/v9/pods", "/apis/apps/v9", "/readyz/nosuch"] {
        let answer = api.get(uri, "*/*").await;
        assert_eq!((answer.code, &*answer.text()), (404, "404 page not found\n"), "{uri}");
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    }
    for uri in [
        "/api/v1/nosuch",
        "/apis/apps/v1/nosuch",
        "/apis/apps/v1/deployments/x",
        "/api/v1/namespaces/n/nodes",
    ] {
        let answer = api.get(uri, "*/*").await;
        let status = answer.json();
        assert_eq!(
            (answer.code, &status["message"]),
            (404, &json!("the server could not find the requested resource")),
            "{uri}"
        );
    }
    for (method, uri) in [
        ("HEAD", MAPS.to_owned()),
        ("OPTIONS", MAPS.to_owned()),
        ("PUT", MAPS.to_owned()),
        ("POST", format!("{MAPS}/a")),
        ("DELETE", "/api/v1/namespaces".to_owned()),
        ("POST", "/version".to_owned()),
    ] {
        let answer = api.send(method, &uri, &[("content-type", "application/json")], "{}").await;
        assert_eq!(
            (answer.code, &answer.json()["reason"]),
            (405, &json!("MethodNotAllowed")),
            "{method} {uri}"
        );
    }
}

#[tokio::test]
async fn unknown_and_duplicate_fields() {
    let api = Api::start().await;
    let body = r#"{"metadata":{"name":"NAME","x":1},"data":{"a":"b","a":"c"},"dat":1}"#;
    let yaml = "metadata: {name: NAME, x: 1}\ndata: {a: b, a: c}\ndat: 1\n";
    let lines = ["duplicate field \"data.a\"", "unknown field \"dat\"", "unknown field \"metadata.x\""];
    for (kind, body) in [("application/json", body), ("application/yaml", yaml)] {
        let headers = [("content-type", kind)];
        let send = |query: &'static str, name: &'static str| {
            let (api, body) = (&api, body.replace("NAME", name));
            async move { api.send("POST", &format!("{MAPS}?{query}&dryRun=All"), &headers, &body).await }
        };
        let strict = send("fieldValidation=Strict", "s").await;
        let message = strict.json()["message"].as_str().unwrap().to_owned();
        let start = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: ";
        assert!(strict.code == 400 && message.starts_with(start), "{message}");
        for line in lines {
            assert!(message.contains(line), "{kind}: {line} in {message}");
        }
        for query in ["fieldValidation=Warn", ""] {
            let warned = send(query, "w").await;
            assert_eq!(warned.code, 201, "{}", warned.text());
            for line in lines {
                let header = format!("299 - \"{}\"", line.replace('"', "\\\""));
                assert!(warned.warnings().contains(&&*header), "{kind}: {header} in {:?}", warned.warnings());
            }
        }
        assert!(send("fieldValidation=Ignore", "i").await.warnings().is_empty());
        let wrong = send("fieldValidation=x", "x").await;
        assert_eq!(
            wrong.json()["message"],
            "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"x\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
        );
    }
    api.map("p").await;
    let one = format!("{MAPS}/p?fieldValidation=Strict");
    let merge = api.patch(&one, "merge-patch+json", r#"{"dat":{"a":"b"}}"#).await;
    let message = merge.json()["message"].as_str().unwrap().to_owned();
    assert!(
        merge.code == 422 && message.starts_with(" \"\" is invalid: patch: Invalid value: \"{"),
        "{message}"
    );
    assert!(message.ends_with(": strict decoding error: unknown field \"dat\""), "{message}");
    let strategic = api.patch(&one, "strategic-merge-patch+json", r#"{"dat":{"a":"b"}}"#).await;
    assert_eq!(
        (strategic.code, strategic.json()["message"].as_str().unwrap()),
        (
            422,
            " \"\" is invalid: patch: Invalid value: \"map[dat:map[a:b]]\": strict decoding error: unknown field \"dat\""
        )
    );
    let typed = api.patch(&one, "merge-patch+json", r#"{"data":"x"}"#).await;
    assert!(
        typed.code == 422
            && typed.text().contains("json: cannot unmarshal string into Go struct field ConfigMap.data"),
        "{}",
        typed.text()
    );
    let json_patch = api.patch(&one, "json-patch+json", r#"[{"op":"add","path":"/dat","value":1}]"#).await;
    assert_eq!(json_patch.code, 422, "{}", json_patch.text());
    assert_eq!(api.patch(&one, "merge-patch+json", "{").await.json()["message"], "invalid JSON patch");
    let warned = api.patch(&format!("{MAPS}/p"), "merge-patch+json", r#"{"dat":1}"#).await;
    assert_eq!((warned.code, warned.warnings()), (200, vec!["299 - \"unknown field \\\"dat\\\"\""]));
}

#[tokio::test]
async fn server_side_apply_takes_declared_fields_only() {
    let api = Api::start().await;
    let one = format!("{MAPS}/a");
    let apply = |query: &'static str, body: &'static str| {
        let (api, uri) = (&api, format!("{one}?{query}"));
        async move { api.patch(&uri, "apply-patch+yaml", body).await }
    };
    let none = apply("", "data: {a: b}").await;
    assert_eq!(
        (none.code, none.json()["message"].as_str().unwrap()),
        (
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
        )
    );
    let unknown = apply(
        "fieldManager=m&fieldValidation=Ignore",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, dat: 1}",
    )
    .await;
    assert_eq!(
        (unknown.code, unknown.json()["message"].as_str().unwrap()),
        (
            500,
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .dat: field not declared in schema"
        )
    );
    let made =
        apply("fieldManager=m", "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {a: b}}").await;
    assert_eq!((made.code, &made.json()["data"]), (201, &json!({"a": "b"})));
    let twice = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: b, a: c}\n";
    assert_eq!(apply("fieldManager=m", twice).await.warnings().len(), 1);
    let strict = apply("fieldManager=m&fieldValidation=Strict", twice).await;
    let message = strict.json()["message"].as_str().unwrap().to_owned();
    assert!(strict.code == 400 && message.starts_with("error strict decoding patch: "), "{message}");
    let bad = apply("fieldManager=m", "a: [").await;
    assert!(bad.code == 400 && bad.text().contains("error encoding patch: "), "{}", bad.text());
    let forced = api.patch(&format!("{one}?force=true"), "merge-patch+json", "{}").await;
    assert!(forced.text().contains("force: Forbidden: may not be specified for non-apply patch"));
}

#[tokio::test]
async fn a_status_carries_annotations_but_no_spec() {
    let api = Api::start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    api.post(path, json!({"metadata": {"name": "d"}, "spec": spec})).await;
    let body = json!({"metadata": {"annotations": {"patched": "true"}}, "spec": {"replicas": 9}, "status": {"observedGeneration": 1}});
    let patched = api.patch(&format!("{path}/d/status"), "merge-patch+json", &body.to_string()).await.json();
    assert_eq!(
        (
            &patched["metadata"]["annotations"]["patched"],
            &patched["spec"]["replicas"],
            &patched["metadata"]["generation"]
        ),
        (&json!("true"), &json!(1), &json!(1))
    );
    assert_eq!(patched["status"]["observedGeneration"], 1);
    let owner = patched["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["subresource"] == "status");
    assert!(owner.unwrap()["fieldsV1"]["f:metadata"]["f:annotations"]["f:patched"].is_object(), "{patched}");
}

#[tokio::test]
async fn deletions_take_their_options_from_body_or_query() {
    let api = Api::start().await;
    let send = |uri: String, body: &'static str| {
        let api = &api;
        async move { api.send("DELETE", &uri, &[("content-type", "application/json")], body).await }
    };
    let map = api.map("a").await;
    for (body, code, text) in [
        (
            r#"{"propagationPolicy":"Other"}"#,
            422,
            "propagationPolicy: Unsupported value: \"Other\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
        ),
        (
            r#"{"propagationPolicy":"Orphan","orphanDependents":true}"#,
            422,
            "orphanDependents and deletionPropagation cannot be both set",
        ),
        (r#"{"dryRun":["x"]}"#, 422, "dryRun: Unsupported value: [\"x\"]: supported values: \"All\""),
        (
            r#"{"preconditions":{"uid":"x"}}"#,
            409,
            "Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (x) does not match the UID in record (",
        ),
        (
            r#"{"preconditions":{"resourceVersion":"1"}}"#,
            409,
            "the ResourceVersion in the precondition (1) does not match the ResourceVersion in record (",
        ),
    ] {
        let answer = send(format!("{MAPS}/a"), body).await;
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(answer.code == code && message.contains(text), "{body}: {message}");
    }
    assert_eq!(send(format!("{MAPS}/a?dryRun=All"), "").await.code, 200);
    assert_eq!(api.get(&format!("{MAPS}/a"), "*/*").await.code, 200);
    let deleted = send(format!("{MAPS}/a"), "").await.json();
    assert_eq!(
        (&deleted["status"], &deleted["details"]["uid"]),
        (&json!("Success"), &map["metadata"]["uid"])
    );
    api.post(MAPS, json!({"metadata": {"name": "held", "finalizers": ["a.b/c"]}})).await;
    let held = send(format!("{MAPS}/held?orphanDependents=false"), "").await;
    assert_eq!((held.code, &held.json()["metadata"]["deletionGracePeriodSeconds"]), (202, &json!(0)));
}

#[tokio::test]
async fn health_and_metrics_have_upstreams_names() {
    let api = Api::start().await;
    for (uri, line) in [
        ("/livez?verbose", "[+]ping ok\n[+]log ok\n[+]etcd ok\nlivez check passed\n"),
        ("/livez", "ok"),
        ("/readyz/etcd", "ok"),
        ("/livez?verbose&exclude=etcd", "[+]ping ok\n[+]log ok\n[+]etcd excluded: ok\nlivez check passed\n"),
    ] {
        let answer = api.get(uri, "*/*").await;
        assert_eq!((answer.code, &*answer.text()), (StatusCode::OK.as_u16(), line), "{uri}");
    }
    assert!(
        api.get("/readyz?verbose", "*/*").await.text().ends_with("[+]shutdown ok\nreadyz check passed\n")
    );
    api.map("a").await;
    let metrics = api.get("/metrics", "*/*").await;
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "apiserver_request_total{code=\"201\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"configmaps\",scope=\"resource\",subresource=\"\",verb=\"POST\",version=\"v1\"} 1\n",
        "# TYPE apiserver_request_duration_seconds histogram\n",
        "apiserver_current_inflight_requests{request_kind=\"readOnly\"}",
        "apiserver_storage_objects{resource=\"configmaps\"} ",
        "kubernetes_build_info{git_version=\"v1.36",
        "process_resident_memory_bytes ",
    ] {
        assert!(metrics.text().contains(line), "{line} in {}", metrics.text());
    }
}
