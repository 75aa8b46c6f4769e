//! Who a backend is told is calling, whatever the client says: case 30 of the research.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::backend::{Backend, scripted};
use crate::harness::gateway::{CONTACTS, Gateway, simple};
use crate::harness::token::token;

#[tokio::test]
async fn case_30_a_client_can_neither_forge_nor_remove_its_identity() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&simple(&[backend.address], "", CONTACTS)).await;
    let spoofs = "X-User-Id: forged\r\nx-USER_id: forged\r\nX_User_Id: forged\r\nx_user_id: forged\r\nX.User.Id: forged\r\nX-USER--ID: forged\r\nXUserId: forged\r\nX-Workspace-Id: forged\r\nX-Token-Scopes: *\r\nX-Token-Id: forged\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Prefix: /evil\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Original-URL: /evil\r\nX-HTTP-Method-Override: DELETE\r\nCookie: session=evil\r\nX-Evil_Name: forged\r\nConnection: X-User-Id, X-Workspace-Id, X-Forwarded-For, X-Nominated\r\nX-Nominated: forged\r\nKeep-Alive: forged\r\nProxy-Authorization: forged\r\nTE: forged\r\nUpgrade: forged\r\n";
    let request = format!(
        "GET /api/v1/contacts HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer {}\r\nX-Kept: yes\r\n{spoofs}\r\n",
        token("w1", "contacts")
    );
    assert_eq!(gateway.send(&request).await.status, 200);
    let seen = backend.only();
    for (name, value) in &seen.headers {
        assert!(
            !format!("{value:?}").contains("forged") && !format!("{value:?}").contains("evil"),
            "{name}: {value:?}"
        );
    }
    assert_eq!((seen.header("x-user-id"), seen.header("x-workspace-id")), (Some("user-1"), Some("w1")));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-host"), Some("api.example.com"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("host"), Some(backend.address.to_string().as_str()));
    assert_eq!(seen.header("x-kept"), Some("yes"));
    assert_eq!(seen.header("accept"), Some("application/json"));
    assert!(seen.header("traceparent").is_some());
}

#[tokio::test]
async fn case_30_every_way_of_taking_an_identity_away_leaves_it_there() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&simple(&[backend.address], "", CONTACTS)).await;
    let token = token("w1", "contacts");
    for fields in [
        "Connection: X-User-Id\r\n",
        "Connection: close, x-user-id, X-Workspace-Id, X-Token-Id, X-Token-Scopes, Authorization, X-Request-Id\r\n",
        "Connection: keep-alive\r\nConnection: X_User_Id\r\nConnection: x-USER_id\r\n",
        "Keep-Alive: X-User-Id\r\nProxy-Connection: X-User-Id\r\nTE: X-User-Id\r\nUpgrade: X-User-Id\r\n",
        "X-User-Id:\r\nX-User-Id: \r\n",
    ] {
        let request =
            format!("GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{fields}\r\n");
        assert_eq!(gateway.send(&request).await.status, 200, "{fields}");
        let seen = backend.seen().pop().unwrap();
        assert_eq!((seen.header("x-user-id"), seen.header("x-workspace-id")), (Some("user-1"), Some("w1")), "{fields}");
        assert!(seen.header("x-token-id").is_some() && seen.header("x-request-id").is_some(), "{fields}");
        assert_eq!(
            (seen.header("x-token-scopes"), seen.header("authorization")),
            (Some("contacts"), Some(format!("Bearer {token}").as_str())),
            "{fields}"
        );
    }
}

#[tokio::test]
async fn case_30_trailers_of_a_request_reach_no_backend() {
    let received = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&received);
    let backend = scripted(move |mut stream| {
        let sink = Arc::clone(&sink);
        async move {
            let mut chunk = [0; 4096];
            while !sink.lock().unwrap().ends_with(b"0\r\n\r\n") {
                match stream.read(&mut chunk).await {
                    Ok(length @ 1..) => sink.lock().unwrap().extend_from_slice(&chunk[..length]),
                    _ => return,
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        }
    })
    .await;
    let gateway = Gateway::start(&simple(&[backend], "", CONTACTS)).await;
    let request = format!(
        "POST /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\nTrailer: X-User-Id\r\nTE: trailers\r\n\r\n4\r\nbody\r\n0\r\nX-User-Id: forged\r\nX_Workspace_Id: forged\r\n\r\n",
        token("w1", "contacts")
    );
    assert_eq!(gateway.send(&request).await.status, 200);
    let received = String::from_utf8(received.lock().unwrap().clone()).unwrap();
    assert!(received.contains("\r\n4\r\nbody\r\n") && !received.contains("forged"), "{received}");
    assert!(received.to_lowercase().contains("x-user-id: user-1"), "{received}");
    assert!(!received.to_lowercase().contains("trailer"), "{received}");
}
