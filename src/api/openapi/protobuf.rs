//! OpenAPI v2 in the protobuf form of gnostic's `OpenAPIv2.proto`, which older kubectl asks for.
//!
//! Only the messages and fields that our documents use are written.

use serde_json::{Map, Value};

/// Writes one message: fields are a number, a wire type and a value.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push((n as u8 & 0x7f) | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u64, text: &str) {
        if !text.is_empty() {
            self.bytes(field, text.as_bytes());
        }
    }

    /// A text of a JSON object, if it is there.
    fn text_of(&mut self, field: u64, object: &Value, name: &str) {
        self.text(field, object[name].as_str().unwrap_or_default());
    }

    fn texts_of(&mut self, field: u64, object: &Value, name: &str) {
        for text in object[name].as_array().into_iter().flatten().filter_map(Value::as_str) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn bool_of(&mut self, field: u64, object: &Value, name: &str) {
        if object[name] == true {
            self.varint(field << 3);
            self.varint(1);
        }
    }

    fn message(&mut self, field: u64, message: &Self) {
        self.bytes(field, &message.0);
    }

    /// A `Named…` message.
    fn named(&mut self, field: u64, name: &str, value: &Self) {
        let mut named = Self::default();
        named.text(1, name);
        named.message(2, value);
        self.message(field, &named);
    }

    /// The fields that begin with `x-`, as `repeated NamedAny`.
    fn extensions(&mut self, field: u64, object: &Value) {
        for (name, value) in entries(object).filter(|(name, _)| name.starts_with("x-")) {
            self.named(field, name, &any(value));
        }
    }
}

fn entries(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flat_map(Map::iter)
}

/// `Any`: JSON is YAML.
fn any(value: &Value) -> Message {
    let mut any = Message::default();
    any.text(2, &value.to_string());
    any
}

/// Writes a v2 document.
pub(super) fn document(json: &Value) -> Vec<u8> {
    let mut document = Message::default();
    document.text_of(1, json, "swagger");
    let mut info = Message::default();
    info.text_of(1, &json["info"], "title");
    info.text_of(2, &json["info"], "version");
    document.message(2, &info);
    let mut paths = Message::default();
    for (path, item) in entries(&json["paths"]) {
        paths.named(2, path, &path_item(item));
    }
    document.message(8, &paths);
    let mut definitions = Message::default();
    for (name, definition) in entries(&json["definitions"]) {
        definitions.named(1, name, &schema(definition));
    }
    document.message(9, &definitions);
    for requirement in json["security"].as_array().into_iter().flatten() {
        let mut message = Message::default();
        for (name, _) in entries(requirement) {
            message.named(1, name, &Message::default());
        }
        document.message(12, &message);
    }
    let mut security = Message::default();
    for (name, definition) in entries(&json["securityDefinitions"]) {
        let mut key = Message::default();
        for (field, text) in [(1, "type"), (2, "name"), (3, "in"), (4, "description")] {
            key.text_of(field, definition, text);
        }
        let mut item = Message::default();
        item.message(2, &key);
        security.named(1, name, &item);
    }
    document.message(13, &security);
    document.0
}

fn path_item(json: &Value) -> Message {
    let mut item = Message::default();
    for (field, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(json) = json.get(method) {
            item.message(field, &operation(json));
        }
    }
    parameters(&mut item, 9, json);
    item.extensions(10, json);
    item
}

fn operation(json: &Value) -> Message {
    let mut operation = Message::default();
    operation.texts_of(1, json, "tags");
    operation.text_of(3, json, "description");
    operation.text_of(5, json, "operationId");
    operation.texts_of(6, json, "produces");
    operation.texts_of(7, json, "consumes");
    parameters(&mut operation, 8, json);
    let mut responses = Message::default();
    for (code, json) in entries(&json["responses"]) {
        let mut response = Message::default();
        response.text_of(1, json, "description");
        if let Some(json) = json.get("schema") {
            let mut item = Message::default();
            item.message(1, &schema(json));
            response.message(2, &item);
        }
        let mut value = Message::default();
        value.message(1, &response);
        responses.named(1, code, &value);
    }
    operation.message(9, &responses);
    operation.texts_of(10, json, "schemes");
    operation.extensions(13, json);
    operation
}

fn parameters(message: &mut Message, field: u64, json: &Value) {
    for json in json["parameters"].as_array().into_iter().flatten() {
        let mut parameter = Message::default();
        if json["in"] == "body" {
            let mut body = Message::default();
            body.text_of(1, json, "description");
            body.text_of(2, json, "name");
            body.text_of(3, json, "in");
            body.bool_of(4, json, "required");
            body.message(5, &schema(&json["schema"]));
            parameter.message(1, &body);
        } else {
            let query = json["in"] == "query";
            let mut inner = Message::default();
            inner.bool_of(1, json, "required");
            inner.text_of(2, json, "in");
            inner.text_of(3, json, "description");
            inner.text_of(4, json, "name");
            // Query parameters have one field more before the type.
            let (kind, unique) = if query { (6, 20) } else { (5, 19) };
            inner.text_of(kind, json, "type");
            inner.bool_of(unique, json, "uniqueItems");
            let mut outer = Message::default();
            outer.message(if query { 3 } else { 4 }, &inner);
            parameter.message(2, &outer);
        }
        let mut item = Message::default();
        item.message(1, &parameter);
        message.message(field, &item);
    }
}

fn schema(json: &Value) -> Message {
    let mut message = Message::default();
    message.text_of(1, json, "$ref");
    message.text_of(2, json, "format");
    message.text_of(4, json, "description");
    if let Some(default) = json.get("default") {
        message.message(5, &any(default));
    }
    message.texts_of(19, json, "required");
    if let Some(json) = json.get("additionalProperties") {
        let mut item = Message::default();
        item.message(1, &schema(json));
        message.message(21, &item);
    }
    if json.get("type").is_some() {
        let mut kind = Message::default();
        kind.text_of(1, json, "type");
        message.message(22, &kind);
    }
    if let Some(json) = json.get("items") {
        let mut items = Message::default();
        items.message(1, &schema(json));
        message.message(23, &items);
    }
    if let Some(json) = json.get("properties") {
        let mut properties = Message::default();
        for (name, json) in entries(json) {
            properties.named(1, name, &schema(json));
        }
        message.message(25, &properties);
    }
    message.extensions(31, json);
    message
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Reads a message's fields: number, and the bytes or the number.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        fn number(bytes: &mut &[u8]) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                value |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    return value;
                }
            }
        }
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = number(&mut bytes);
            let value = number(&mut bytes);
            let (content, rest) =
                if key & 7 == 2 { bytes.split_at(value as usize) } else { (&[value as u8][..], bytes) };
            fields.push((key >> 3, content.to_vec()));
            bytes = rest;
        }
        fields
    }

    #[test]
    fn schemas_have_gnostics_field_numbers() {
        let message = schema(&json!({"type": "object", "required": ["a"], "description": "d", "x-y": [1],
            "properties": {"a": {"$ref": "#/definitions/b"}}}));
        let numbers: Vec<u64> = fields(&message.0).iter().map(|(n, _)| *n).collect();
        assert_eq!(numbers, [4, 19, 22, 25, 31]);
        let named = fields(&fields(&fields(&message.0)[3].1)[0].1);
        assert_eq!(named[0], (1, b"a".to_vec()));
        assert_eq!(fields(&named[1].1), [(1, b"#/definitions/b".to_vec())]);
        let extension = fields(&fields(&message.0)[4].1);
        assert_eq!(
            (extension[0].1.as_slice(), fields(&extension[1].1)),
            (&b"x-y"[..], vec![(2, b"[1]".to_vec())])
        );
    }

    #[test]
    fn parameters_are_of_their_kind() {
        let mut message = Message::default();
        let json = json!({"parameters": [{"in": "query", "name": "q", "type": "string", "uniqueItems": true},
            {"in": "path", "name": "p", "type": "string", "required": true}, {"in": "body", "name": "body", "schema": {}}]});
        parameters(&mut message, 8, &json);
        let kinds: Vec<(u64, u64)> = fields(&message.0)
            .iter()
            .map(|(_, item)| {
                let parameter = fields(&fields(item)[0].1);
                (parameter[0].0, fields(&parameter[0].1)[0].0)
            })
            .collect();
        assert_eq!(kinds, [(2, 3), (2, 4), (1, 2)]);
    }
}
