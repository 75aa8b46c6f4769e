//! How a connection to one server is made, and when it is good.

use std::path::Path;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ErrorKind, FromRedisValue, IntoConnectionInfo, RedisError,
    TlsCertificates,
};
use tokio::time::timeout;

use crate::config::redis_url::RedisUrl;
use crate::config::settings::{LinkSettings, LinkTls};

const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// The url as it is now: a file is read again, and the last known one serves while it cannot be.
pub(super) fn url(settings: &LinkSettings) -> Result<RedisUrl, RedisError> {
    let read = settings.url_file.as_deref().and_then(read_line);
    let text = read.as_deref().unwrap_or(&settings.url.0);
    RedisUrl::parse(text).ok_or_else(|| (ErrorKind::InvalidClientConfig, "this is not the url of a Redis").into())
}

/// Connects to one host, without looking what it is. An answer may take as long as `response_timeout`.
pub(super) async fn connect(
    url: &RedisUrl,
    host: &str,
    settings: &LinkSettings,
    response_timeout: Duration,
) -> Result<MultiplexedConnection, RedisError> {
    let client = client(url, host, settings)?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(response_timeout));
    let attempt = client.get_multiplexed_async_connection_with_config(&config);
    let late = || Err((ErrorKind::Io, "no connection in time").into());
    timeout(2 * CONNECT_TIMEOUT, attempt).await.unwrap_or_else(|_| late())
}

/// A client for one host, which has not connected yet.
pub(super) fn client(url: &RedisUrl, host: &str, settings: &LinkSettings) -> Result<Client, RedisError> {
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(redis::io::tcp::socket2::TcpKeepalive::new().with_time(Duration::from_secs(5)))
        .set_user_timeout(Duration::from_secs(2));
    let mut info = url.to(host).into_connection_info()?.set_tcp_settings(tcp);
    if let Some(password) = settings.password_file.as_deref().and_then(read_line) {
        let with_password = info.redis_settings().clone().set_password(password);
        info = info.set_redis_settings(with_password);
    }
    if !url.is_tls {
        return Client::open(info);
    }
    crate::tls::install_provider();
    Client::build_with_tls(info, certificates(&settings.tls)?)
}

fn read_line(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok().map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
}

fn certificates(tls: &LinkTls) -> Result<TlsCertificates, RedisError> {
    let read = |file: &Path| std::fs::read(file).map_err(RedisError::from);
    let root_cert = tls.ca.as_deref().map(read).transpose()?;
    let client_tls = match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => {
            Some(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? })
        }
        _ => None,
    };
    Ok(TlsCertificates { client_tls, root_cert })
}

/// A connection is good if its server answers and takes writes. A server that keeps its role to itself is taken at its word.
pub(super) async fn check(connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    let role = match redis::cmd("ROLE").query_async::<redis::Value>(connection).await {
        Err(error) if error.code() == Some("NOPERM") => return redis::cmd("PING").query_async(connection).await,
        role => role?,
    };
    let is_replica = match &role {
        redis::Value::Array(fields) => {
            fields.first().is_some_and(|name| String::from_redis_value_ref(name).is_ok_and(|name| name != "master"))
        }
        _ => false,
    };
    if is_replica { Err((ErrorKind::Io, "this Redis is a replica: it takes no writes").into()) } else { Ok(()) }
}
