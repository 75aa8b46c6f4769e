//! A database connection on loan from its pool.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::{Pool, PoolConnection};
use tokio::time::timeout;

/// How long a connection has to show that it can be used again.
const RETURN: Duration = Duration::from_secs(2);

/// A connection that goes back to its pool in time, or is closed.
///
/// sqlx asks a connection for a sign of life before it takes it back, and waits for that without a bound. One whose other end went
/// away without a word would keep its place in the pool until TCP gives up, a quarter of an hour later.
pub(super) struct Borrowed<DB: sqlx::Database>(PoolConnection<DB>);

impl<DB: sqlx::Database> Borrowed<DB> {
    pub(super) async fn from(pool: &Pool<DB>) -> Result<Self, sqlx::Error> {
        pool.acquire().await.map(Self)
    }
}

impl<DB: sqlx::Database> Deref for Borrowed<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<DB: sqlx::Database> DerefMut for Borrowed<DB> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<DB: sqlx::Database> Drop for Borrowed<DB> {
    fn drop(&mut self) {
        tokio::spawn(timeout(RETURN, self.0.return_to_pool()));
    }
}
