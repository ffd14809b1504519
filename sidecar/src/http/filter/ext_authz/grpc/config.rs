//! `envoy.service.auth.v3`: a question → `CheckRequest`, `CheckResponse` → a verdict.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::service::auth::v3 as pb;
use envoy_types::pb::google::protobuf;
use pb::attribute_context::{HttpRequest, Peer, Request, TlsSession};
use pb::check_response::HttpResponse;
use prost::Message;
use serde_json::Value;

use super::Grpc;
use crate::config::structure;
use crate::http::filter::ext_authz::question::{Question, Service, ServiceError};
use crate::http::filter::ext_authz::verdict::{Change, Changes, Denial, How, Verdict, changeable};
use crate::net::Address;
use crate::stream::CertificateFacts;

/// The question's bytes.
pub fn question(grpc: &Grpc, service: &Service, question: &Question<'_>) -> Vec<u8> {
    let connection = &question.exchange.stream.connection;
    let tls = connection.tls.as_ref();
    let mut source = peer(&question.exchange.stream.remote.borrow(), connection.peer().map(|facts| &**facts));
    source.service = question.head.header("x-envoy-downstream-service-cluster").map(text).unwrap_or_default();
    if grpc.certificate {
        source.certificate = connection.peer().map(|facts| facts.url_encoded_pem().to_owned()).unwrap_or_default();
    }
    let attributes = pb::AttributeContext {
        source: Some(source),
        destination: Some(peer(&connection.local, tls.and_then(|tls| tls.local.as_deref()))),
        request: Some(Request {
            time: Some(timestamp(question.exchange.stream.start_time)),
            http: Some(request(service, question)),
        }),
        context_extensions: question.extensions.iter().cloned().collect(),
        metadata_context: Some(metadata(grpc, question)),
        tls_session: tls.filter(|_| grpc.tls_session).map(|tls| TlsSession { sni: tls.sni.clone() }),
        ..Default::default()
    };
    pb::CheckRequest { attributes: Some(attributes) }.encode_to_vec()
}

fn text(bytes: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(bytes.as_ref()).into_owned()
}

fn request(service: &Service, question: &Question<'_>) -> HttpRequest {
    let head = question.head;
    let mut http = HttpRequest {
        id: question.exchange.stream.request_id.get().cloned().unwrap_or_default(),
        method: head.method.as_str().to_owned(),
        headers: question.headers(&service.visible).into_iter().map(|(k, v)| (k, text(v))).collect::<HashMap<_, _>>(),
        path: head.path_and_query().to_owned(),
        host: head.authority_str().to_owned(),
        scheme: head.scheme.as_str().to_owned(),
        size: i64::try_from(question.exchange.progress.received()).unwrap_or(i64::MAX),
        protocol: head.protocol.as_str().to_owned(),
        ..Default::default()
    };
    match question.body {
        Some(body) if body.bytes => http.raw_body = body.shown.to_vec(),
        Some(body) => http.body = text(&body.shown),
        None => {}
    }
    http
}

fn timestamp(time: SystemTime) -> protobuf::Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = i32::try_from(since.subsec_nanos()).unwrap_or_default();
    protobuf::Timestamp { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos }
}

/// Names in Envoy's order: URI SANs, DNS SANs, then the subject.
fn peer(address: &Address, facts: Option<&CertificateFacts>) -> Peer {
    let name = facts.map(|f| f.uri_sans.first().or(f.dns_sans.first()).unwrap_or(&f.subject).clone());
    Peer { address: Some(address_of(address)), principal: name.unwrap_or_default(), ..Default::default() }
}

fn address_of(address: &Address) -> core::Address {
    use core::address::Address as Kind;
    let kind = match address {
        Address::Ip(socket) => Kind::SocketAddress(core::SocketAddress {
            address: socket.ip().to_string(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(socket.port().into())),
            ..Default::default()
        }),
        Address::Pipe(path) => Kind::Pipe(core::Pipe { path: path.display().to_string(), mode: 0 }),
    };
    core::Address { address: Some(kind) }
}

fn metadata(grpc: &Grpc, question: &Question<'_>) -> core::Metadata {
    let all = question.exchange.stream.dynamic_metadata.borrow();
    let told = grpc.namespaces.iter().filter_map(|name| match value(all.get(name)?).kind {
        Some(protobuf::value::Kind::StructValue(fields)) => Some((name.clone(), fields)),
        _ => None,
    });
    core::Metadata { filter_metadata: told.collect(), ..Default::default() }
}

fn value(json: &Value) -> protobuf::Value {
    use protobuf::value::Kind;
    let kind = match json {
        Value::Null => Kind::NullValue(0),
        Value::Bool(b) => Kind::BoolValue(*b),
        Value::Number(n) => Kind::NumberValue(n.as_f64().unwrap_or_default()),
        Value::String(s) => Kind::StringValue(s.clone()),
        Value::Array(items) => Kind::ListValue(protobuf::ListValue { values: items.iter().map(value).collect() }),
        Value::Object(map) => {
            Kind::StructValue(protobuf::Struct { fields: map.iter().map(|(k, v)| (k.clone(), value(v))).collect() })
        }
    };
    protobuf::Value { kind: Some(kind) }
}

/// Reads an answer.
///
/// # Errors
/// It is no `CheckResponse`.
pub fn verdict(bytes: &[u8]) -> Result<Verdict, ServiceError> {
    let response = pb::CheckResponse::decode(bytes).map_err(|e| ServiceError::Message(e.to_string()))?;
    // Without a status it is one of 0, as protobuf leaves defaults out.
    let passes = response.status.as_ref().is_none_or(|status| status.code == 0);
    let told = response.dynamic_metadata;
    let verdict = match (passes, response.http_response) {
        (true, Some(HttpResponse::OkResponse(ok))) => changes(ok, told).map(|c| Verdict::Ok(Box::new(c))),
        (true, None) => Some(Verdict::Ok(Box::new(Changes { metadata: fields(told), ..Changes::default() }))),
        // It contradicts itself: refused.
        (true, Some(_)) => None,
        (false, Some(HttpResponse::ErrorResponse(_))) => Some(Verdict::Error),
        (false, Some(HttpResponse::DeniedResponse(denied))) => {
            denial(denied, told).map(|d| Verdict::Denied(Box::new(d)))
        }
        (false, _) => denial(pb::DeniedHttpResponse::default(), told).map(|d| Verdict::Denied(Box::new(d))),
    };
    Ok(verdict.unwrap_or(Verdict::Invalid))
}

fn fields(told: Option<protobuf::Struct>) -> Vec<(String, Value)> {
    match told.map(|told| structure(&told)) {
        Some(Value::Object(map)) => map.into_iter().collect(),
        _ => Vec::new(),
    }
}

/// `None`: something in it cannot be done.
fn changes(ok: pb::OkHttpResponse, told: Option<protobuf::Struct>) -> Option<Changes> {
    #[allow(deprecated)] // Where older services tell metadata.
    let told = told.or(ok.dynamic_metadata);
    Some(Changes {
        request: ok.headers.iter().map(|option| change(option, How::Set, How::Join)).collect::<Option<_>>()?,
        remove: ok.headers_to_remove.iter().filter_map(|name| changeable(name)).collect(),
        response: all(&ok.response_headers_to_add)?,
        set_query: ok.query_parameters_to_set.into_iter().map(|query| (query.key, query.value)).collect(),
        remove_query: ok.query_parameters_to_remove,
        metadata: fields(told),
    })
}

fn all(options: &[core::HeaderValueOption]) -> Option<Vec<Change>> {
    options.iter().map(|option| change(option, How::Add, How::Add)).collect()
}

/// `plain` is what happens without an action, `append` what with `append: true`.
fn change(option: &core::HeaderValueOption, plain: How, append: How) -> Option<Change> {
    use core::header_value_option::HeaderAppendAction as Action;
    let header = option.header.as_ref()?;
    #[allow(deprecated)] // What services say that are older than append_action.
    let how = match (option.append.as_ref().map(|append| append.value), option.append_action()) {
        (Some(true), _) => append,
        (_, Action::AppendIfExistsOrAdd) => plain,
        (_, Action::AddIfAbsent) => How::AddIfAbsent,
        (_, Action::OverwriteIfExists) => How::SetIfThere,
        (_, Action::OverwriteIfExistsOrAdd) => How::Set,
    };
    let value = if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value };
    Change::new(&header.key, value, how)
}

fn denial(denied: pb::DeniedHttpResponse, told: Option<protobuf::Struct>) -> Option<Denial> {
    let status = denied.status.map_or(0, |status| status.code);
    Some(Denial {
        status: u16::try_from(status).ok().filter(|status| (200..600).contains(status)).unwrap_or(403),
        headers: all(&denied.headers)?,
        body: denied.body,
        metadata: fields(told),
    })
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::rpc::Status;

    use super::*;

    fn check(code: i32, response: Option<HttpResponse>, expected: &str) {
        let status = Some(Status { code, ..Default::default() });
        let message = pb::CheckResponse { status, http_response: response, ..Default::default() };
        let got = match verdict(&message.encode_to_vec()).unwrap() {
            Verdict::Ok(changes) => format!("ok {}", changes.request.len()),
            Verdict::Denied(denial) => format!("denied {} {}", denial.status, denial.body),
            Verdict::Invalid => "invalid".to_owned(),
            Verdict::Error => "error".to_owned(),
        };
        assert_eq!(got, expected, "{message:?}");
    }

    fn header(key: &str) -> core::HeaderValueOption {
        let header = core::HeaderValue { key: key.to_owned(), value: "v".to_owned(), ..Default::default() };
        core::HeaderValueOption { header: Some(header), ..Default::default() }
    }

    #[test]
    fn verdicts() {
        let ok = |key: &str| {
            HttpResponse::OkResponse(pb::OkHttpResponse { headers: vec![header(key)], ..Default::default() })
        };
        let denied = || pb::DeniedHttpResponse { body: "no".to_owned(), ..Default::default() };
        check(0, None, "ok 0");
        check(0, Some(ok("x-user")), "ok 1");
        check(0, Some(ok("a b")), "invalid");
        check(0, Some(ok(":path")), "invalid");
        check(0, Some(HttpResponse::DeniedResponse(denied())), "invalid");
        check(7, None, "denied 403 ");
        check(7, Some(ok("x-user")), "denied 403 ");
        check(7, Some(HttpResponse::DeniedResponse(denied())), "denied 403 no");
        check(7, Some(HttpResponse::ErrorResponse(denied())), "error");
        assert!(verdict(b"\xff\xff").is_err());
    }
}
