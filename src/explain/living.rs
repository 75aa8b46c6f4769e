//! The living parts that a rehearsal needs: whoever knows tokens, and nothing that takes, writes or is counted among the gateways.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::auth::Identifier;
use crate::auth::revocation::Revocations;
use crate::config::settings::{AuthSettings, Config, SourceSettings};
use crate::limits::Limits;
use crate::limits::memory::MemoryStore;
use crate::pipeline::Admission;
use crate::ports::{Clock, SystemClock};
use crate::redis::Link;
use crate::telemetry::metrics::Metrics;

/// How long Redis, the stream of revocations and published keys may take to answer.
const SETTLING: Duration = Duration::from_secs(2);

/// A configuration that can judge and cannot count.
pub struct Living {
    /// The pipeline, with an empty store of limits.
    pub admission: Admission,
    /// Whether every revocation is known.
    pub knows_revocations: bool,
    /// Held, because connections end with it.
    _link: Option<Arc<Link>>,
}

impl Living {
    /// Connects what `config` names. Must be called on a tokio runtime.
    pub async fn start(config: &Config, metrics: Metrics) -> Self {
        let (clock, metrics) = (Arc::<SystemClock>::default() as Arc<dyn Clock>, Arc::new(metrics));
        // Without a name it is no replica, so nobody counts it and nobody waits for it.
        let link = config.redis.as_ref().map(|redis| Link::start(redis.link.clone(), None, Arc::clone(&metrics)));
        let revocations = match &link {
            Some(link) => Revocations::follow(link, Arc::clone(&clock), Arc::clone(&metrics)),
            None => Revocations::none(Arc::clone(&clock), Arc::clone(&metrics)),
        };
        let auth = only_looking(&config.auth);
        let identifier = Identifier::start(&auth, link.as_ref(), Arc::clone(&revocations), Arc::clone(&clock), metrics);
        let settling = async {
            tokio::join!(identifier.settle(), revocations.settle());
        };
        let knows_revocations = timeout(SETTLING, settling).await.is_ok();
        let limits = Arc::new(Limits::new(None, Arc::<MemoryStore>::default(), clock));
        let admission = Admission { policy: Arc::clone(&config.policy), identifier, limits };
        Self { admission, knows_revocations, _link: link }
    }
}

/// The same sources, of which none writes down that a token was used.
fn only_looking(auth: &AuthSettings) -> AuthSettings {
    let mut auth = auth.clone();
    for source in &mut auth.sources {
        if let SourceSettings::Sql(sql) = source {
            sql.last_used_at = false;
        }
    }
    auth
}
