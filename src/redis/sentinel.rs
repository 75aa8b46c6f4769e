//! Sentinels: who is the master, and the news that it has changed.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use redis::{ErrorKind, RedisError};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::redis_url::{RedisUrl, Shape};
use crate::config::settings::LinkSettings;
use crate::redis::connect::{self, connect};
use crate::redis::jittered;
use crate::redis::node::Node;

const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(500);

/// The address that most of the sentinels which answer give for the master of `service`.
pub(super) async fn master(url: &RedisUrl, service: &str, settings: &LinkSettings) -> Result<String, RedisError> {
    let mut questions = JoinSet::new();
    for host in &url.hosts {
        let (sentinels, host) = (url.of_sentinels(), host.clone());
        let (service, settings) = (service.to_owned(), settings.without_password());
        questions.spawn(async move {
            let mut connection = connect(&sentinels, &host, &settings, PATIENCE).await?;
            let mut question = redis::cmd("SENTINEL");
            question.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
            question.query_async::<Option<(String, u16)>>(&mut connection).await
        });
    }
    let mut votes: HashMap<String, usize> = HashMap::new();
    let mut last_error = None;
    while let Some(answer) = questions.join_next().await {
        match answer {
            Ok(Ok(Some((host, port)))) => {
                let host = with_port(&host, port);
                let votes = votes.entry(host.clone()).or_default();
                *votes += 1;
                // The rest may take long to say nothing.
                if 2 * *votes > url.hosts.len() {
                    return Ok(host);
                }
            }
            Ok(Ok(None)) => last_error = Some((ErrorKind::Client, "the sentinels know no such service").into()),
            Ok(Err(error)) => last_error = Some(error),
            Err(_) => {}
        }
    }
    let most = votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(host, _)| host);
    most.ok_or_else(|| last_error.unwrap_or_else(|| (ErrorKind::Io, "no sentinel answers").into()))
}

fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Listens for a change of masters, at one sentinel after the other, as long as the node lives. It is a hint that saves time: a server
/// that is no master any more is found out anyhow, and what a sentinel says is verified.
pub(super) async fn listen(node: Weak<Node>) {
    for turn in 0_usize.. {
        let Some(strong) = node.upgrade() else { return };
        let settings = strong.settings().without_password();
        let Ok(url) = connect::url(strong.settings()) else { return };
        drop(strong);
        let Shape::Sentinel(service) = &url.shape else { return };
        let host = url.hosts.get(turn % url.hosts.len().max(1)).cloned().unwrap_or_default();
        if let Ok(client) = connect::client(&url.of_sentinels(), &host, &settings)
            && let Ok(Ok(mut news)) = timeout(PATIENCE, client.get_async_pubsub()).await
            && let Ok(Ok(())) = timeout(PATIENCE, news.subscribe("+switch-master")).await
        {
            let mut news = news.on_message();
            // What has changed before anybody listened is not in the news.
            while let Some(message) = hear(&mut news, &node).await {
                let text: String = message.get_payload().unwrap_or_default();
                if let (Some(node), true) = (node.upgrade(), text.split(' ').next() == Some(service)) {
                    node.has_moved();
                }
            }
        }
        tokio::time::sleep(jittered(PAUSE)).await;
    }
}

/// The next message; `None` when the connection has ended or nobody needs it any more.
async fn hear(news: &mut (impl Stream<Item = redis::Msg> + Unpin), node: &Weak<Node>) -> Option<redis::Msg> {
    while node.strong_count() > 0 {
        if let Ok(message) = timeout(Duration::from_secs(5), news.next()).await {
            return message;
        }
    }
    None
}

/// Starts listening for a node that sentinels know.
pub(super) fn start(node: &Arc<Node>) {
    tokio::spawn(listen(Arc::downgrade(node)));
}
