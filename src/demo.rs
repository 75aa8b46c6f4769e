//! Sample backends: small services that answer the way MailTrixy's do, good days and bad ones.
//!
//! Success is `{"success":true,"data":…}`, a collection has `meta`, and errors are what Laravel and its web servers really send, so
//! that there is something to normalise.

use std::convert::Infallible;
use std::net::TcpListener;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, SERVER};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::channel::Channel;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

/// A backend that is bound and not served yet.
pub struct Backend {
    /// The upstream it stands for.
    pub name: &'static str,
    /// Where it listens.
    pub listener: TcpListener,
}

type Body = BoxBody<Bytes, Infallible>;

/// Longer than any timeout of gateway.yaml.
const SLOW: Duration = Duration::from_secs(300);
const BETWEEN_WORDS: Duration = Duration::from_millis(150);
const MOST_BODY: usize = 1 << 20;

/// Serves `backends` on a thread of their own, for as long as the process lives.
pub fn serve(backends: Vec<Backend>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("sample-backends")
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the sample backends: {error}"))?;
    for Backend { name, listener } in backends {
        listener.set_nonblocking(true).map_err(|error| format!("cannot start the {name} backend: {error}"))?;
        runtime.spawn(accept(name, listener));
    }
    // The thread that is parked here keeps the runtime.
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    Ok(())
}

async fn accept(name: &'static str, listener: TcpListener) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        let service = service_fn(move |request| async move { Ok::<_, Infallible>(answer(name, request).await) });
        // A gateway that breaks off is its own affair.
        tokio::spawn(async move {
            drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await)
        });
    }
}

async fn answer(service: &'static str, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    // A server that answers without having read the body closes the connection, as whoever sends the next request on it will notice.
    let body = read(body).await;
    let path = head.uri.path().strip_prefix("/api/v1").unwrap_or(head.uri.path()).to_owned();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let mut response = match (service, &head.method, segments.as_slice()) {
        (_, &Method::GET, ["up"]) => text(StatusCode::OK, "text/plain", "up"),
        (_, _, [_, "broken"]) => text(StatusCode::INTERNAL_SERVER_ERROR, "text/html; charset=UTF-8", DEBUG_PAGE),
        (_, _, [_, "slow"]) => {
            tokio::time::sleep(SLOW).await;
            data(json!({"patience": "rewarded"}))
        }
        ("contacts", &Method::GET, ["contacts"]) => collection(head.uri.query().unwrap_or_default(), &CONTACTS),
        ("contacts", &Method::GET, ["contacts", id]) => contact(id),
        ("contacts", &Method::POST, ["contacts"]) => create_contact(&body),
        ("campaigns", &Method::GET, ["campaigns"]) => collection(head.uri.query().unwrap_or_default(), &CAMPAIGNS),
        ("campaigns", &Method::POST, ["campaigns", id, "send"]) => {
            json_answer(StatusCode::ACCEPTED, &json!({"success": true, "data": {"id": id, "status": "sending"}}))
        }
        ("ai", &Method::POST, ["ai", "chat"]) => stream("Your inbox called: it wants fewer emails like this one"),
        ("core", &Method::GET, [resource]) => collection(head.uri.query().unwrap_or_default(), &[resource]),
        ("core", _, ["tokens", "current"]) => data(caller(&head.headers)),
        (_, &Method::GET, [resource, id]) => {
            data(json!({"type": resource, "id": id, "seen_as": caller(&head.headers)}))
        }
        _ => laravel(StatusCode::NOT_FOUND, &format!("The route api/v1{path} could not be found.")),
    };
    response.headers_mut().insert(SERVER, HeaderValue::from_static("nginx/1.27"));
    response.headers_mut().insert("x-powered-by", HeaderValue::from_static("PHP/8.4"));
    response
}

const CONTACTS: [&str; 3] = ["Ada Lovelace", "Grace Hopper", "Margaret Hamilton"];
const CAMPAIGNS: [&str; 2] = ["Welcome", "October news"];

/// What a 500 looks like with APP_DEBUG=true, the way it should never reach anybody.
const DEBUG_PAGE: &str = "<!DOCTYPE html><html><body><h1>Illuminate\\Database\\QueryException</h1>\
    <p>SQLSTATE[HY000] [2002] Connection refused (SQL: select * from `contacts` where `workspace_id` = 1)</p>\
    <pre>#0 /var/www/html/vendor/laravel/framework/src/Illuminate/Database/Connection.php(829)</pre></body></html>";

/// The identity the gateway vouches for.
fn caller(headers: &HeaderMap) -> Value {
    let field = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    json!({
        "workspace": field("x-workspace-id"),
        "user": field("x-user-id"),
        "token": field("x-token-id"),
        "scopes": field("x-token-scopes"),
        "request": field("x-request-id"),
    })
}

fn collection(query: &str, names: &[&str]) -> Response<Body> {
    let number = |name: &str, default: usize| {
        let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        value.and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    let (page, per_page) = (number("page", 1), number("per_page", 25).max(1));
    let first = page.saturating_sub(1).saturating_mul(per_page);
    let items: Vec<Value> = names
        .iter()
        .enumerate()
        .skip(first)
        .take(per_page)
        .map(|(at, name)| json!({"id": at + 1, "name": name}))
        .collect();
    let meta = json!({"page": page, "per_page": per_page, "total": names.len(), "last_page": names.len().div_ceil(per_page).max(1)});
    json_answer(StatusCode::OK, &json!({"success": true, "data": items, "meta": meta}))
}

fn contact(id: &str) -> Response<Body> {
    let found = id.parse::<usize>().ok().and_then(|id| CONTACTS.get(id.checked_sub(1)?));
    match found {
        Some(name) => data(json!({"id": id, "name": name})),
        None => laravel(StatusCode::NOT_FOUND, &format!("No query results for model [App\\Models\\Contact] {id}")),
    }
}

fn create_contact(body: &[u8]) -> Response<Body> {
    let sent: Value = serde_json::from_slice(body).unwrap_or_default();
    match sent.get("email").and_then(Value::as_str) {
        Some(email) if email.contains('@') => {
            json_answer(StatusCode::CREATED, &json!({"success": true, "data": {"id": 4, "email": email}}))
        }
        sent => {
            let problem = match sent {
                Some(_) => "The email field must be a valid email address.",
                None => "The email field is required.",
            };
            let body = json!({"message": problem, "errors": {"email": [problem]}});
            json_answer(StatusCode::UNPROCESSABLE_ENTITY, &body)
        }
    }
}

/// Server-sent events, a word at a time.
fn stream(sentence: &'static str) -> Response<Body> {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        for word in sentence.split(' ') {
            let event = format!("data: {}\n\n", json!({"delta": word}));
            if sender.send_data(event.into()).await.is_err() {
                return;
            }
            tokio::time::sleep(BETWEEN_WORDS).await;
        }
        // The client may have gone in the meantime.
        let _ = sender.send_data("data: [DONE]\n\n".into()).await;
    });
    let mut response = Response::new(body.boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

async fn read(body: Incoming) -> Vec<u8> {
    let limited = http_body_util::Limited::new(body, MOST_BODY);
    limited.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default()
}

fn data(data: Value) -> Response<Body> {
    json_answer(StatusCode::OK, &json!({"success": true, "data": data}))
}

fn laravel(status: StatusCode, message: &str) -> Response<Body> {
    json_answer(status, &json!({"message": message}))
}

fn json_answer(status: StatusCode, body: &Value) -> Response<Body> {
    text(status, "application/json", &body.to_string())
}

fn text(status: StatusCode, content_type: &'static str, body: &str) -> Response<Body> {
    let mut response = Response::new(Full::from(body.to_owned()).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
