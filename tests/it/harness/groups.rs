//! Several redis-servers that belong together: a primary with its replica and sentinels, and a Cluster.

use super::redis::Redis;
use super::{free_port, wait_for};

/// A primary, its replica, and three sentinels that watch them.
pub struct Watched {
    /// Who takes writes at first.
    pub primary: Redis,
    /// Who copies it.
    pub replica: Redis,
    /// Who watch.
    pub sentinels: Vec<Redis>,
}

impl Watched {
    /// Starts them and waits until the sentinels know each other and the replica.
    pub async fn start() -> Self {
        let primary = Redis::start().await;
        let replica = Redis::start_replica_of(&primary).await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(Redis::start_sentinel_of(&primary).await);
        }
        for sentinel in &sentinels {
            wait_for("the sentinels", async || {
                let state: Vec<String> = sentinel.command(&["SENTINEL", "MASTER", "main"]).await;
                let value = |name: &str| state.iter().skip_while(|word| *word != name).nth(1).map(String::as_str);
                (value("num-slaves") == Some("1") && value("num-other-sentinels") == Some("2")).then_some(())
            })
            .await;
        }
        Self { primary, replica, sentinels }
    }

    /// The url that names the sentinels.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
        format!("redis+sentinel://{}/main", hosts.join(","))
    }

    /// The replica becomes the primary and the primary its replica, without a word to the clients of either.
    pub async fn swap_roles(&self) {
        let new = self.replica.port().to_string();
        self.replica.command::<()>(&["REPLICAOF", "NO", "ONE"]).await;
        self.primary.command::<()>(&["REPLICAOF", "127.0.0.1", &new]).await;
        for sentinel in &self.sentinels {
            sentinel.command::<()>(&["SENTINEL", "REMOVE", "main"]).await;
            sentinel.command::<()>(&["SENTINEL", "MONITOR", "main", "127.0.0.1", &new, "2"]).await;
        }
    }
}

/// Three masters, and replicas of the first.
pub struct Cluster {
    /// Who own the slots, a third each.
    pub masters: Vec<Redis>,
    /// Who copy the first.
    pub replicas: Vec<Redis>,
}

const SLOTS: u16 = 16_384;

impl Cluster {
    /// Starts one with the given arguments for each node and waits until everybody knows everybody.
    pub async fn start(arguments: &[&str], replicas: usize) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..3 + replicas {
            nodes.push(Node::start(arguments).await);
        }
        let [(first, bus), ..] = nodes.as_slice() else { panic!("there are three") };
        let (first, bus) = (first.port().to_string(), bus.to_string());
        for (at, (node, _)) in nodes.iter().enumerate() {
            node.command::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]).await;
            if at > 0 {
                node.command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &first, &bus]).await;
            }
            if let Some((first, last)) = Self::share(at) {
                node.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
            }
        }
        let known = format!("cluster_known_nodes:{}\r", nodes.len());
        for (node, _) in &nodes {
            wait_for("the nodes to meet", async || {
                node.says(&["CLUSTER", "INFO"], &known).await?;
                node.says(&["CLUSTER", "INFO"], "cluster_state:ok").await
            })
            .await;
        }
        let mut masters: Vec<Redis> = nodes.into_iter().map(|(node, _)| node).collect();
        let replicas = masters.split_off(3);
        let id: String = masters[0].command(&["CLUSTER", "MYID"]).await;
        for replica in &replicas {
            replica.command::<()>(&["CLUSTER", "REPLICATE", &id]).await;
            wait_for("the replica", async || replica.says(&["INFO", "replication"], "master_link_status:up").await)
                .await;
            for node in &masters {
                wait_for("the nodes to know of it", async || node.says(&["CLUSTER", "NODES"], " slave ").await).await;
            }
        }
        Self { masters, replicas }
    }

    /// The slots of a master.
    fn share(at: usize) -> Option<(u16, u16)> {
        let bound = |at: usize| u16::try_from(at).unwrap() * (SLOTS / 3);
        match at {
            0 | 1 => Some((bound(at), bound(at + 1) - 1)),
            2 => Some((bound(at), SLOTS - 1)),
            _ => None,
        }
    }

    /// The url that names the masters.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.masters.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// The place of the master that owns the slot of a key, and the slot.
    pub async fn owner(&self, key: &str) -> (usize, u16) {
        let slot: u16 = self.masters[0].command(&["CLUSTER", "KEYSLOT", key]).await;
        let owns = |at: &usize| Self::share(*at).is_some_and(|(first, last)| (first..=last).contains(&slot));
        ((0..3).find(owns).unwrap(), slot)
    }

    /// A workspace whose counters live on this master.
    pub async fn workspace_on(&self, master: usize) -> String {
        for n in 0.. {
            let workspace = format!("s{n}");
            if self.owner(&format!("{{w{workspace}}}")).await.0 == master {
                return workspace;
            }
        }
        unreachable!()
    }
}

/// One node of a Cluster.
struct Node;

impl Node {
    /// Starts one that owns nothing, and its bus port.
    async fn start(arguments: &[&str]) -> (Redis, u16) {
        loop {
            let bus = free_port();
            let number = bus.to_string();
            let cluster = ["--cluster-enabled", "yes", "--cluster-port", &number];
            if let Some(redis) = Redis::try_start(free_port(), &[&cluster, arguments].concat()).await {
                return (redis, bus);
            }
        }
    }
}
