//! What the script in Redis is asked and answers, in octets. Packed, because numbers as text cost both sides more than counting does.

use crate::policy::limit::{Ask, Count, Tally};
use crate::policy::meter::Algorithm;
use crate::policy::time::{UnixMillis, millis};
use crate::ports::StoreError;

/// The script. Its head says how it is called.
pub const SOURCE: &str = include_str!("take.lua");

/// One question: how many of `requests` fit that ask the same. `debt` is what is owed for the ask at a place.
pub fn question(asks: &[Ask], requests: u32, debt: impl Fn(usize) -> u32) -> Vec<u8> {
    let mut packed = Vec::with_capacity(8 + 26 * asks.len());
    packed.extend_from_slice(&requests.to_le_bytes());
    packed.extend_from_slice(&u32::try_from(asks.len()).unwrap_or(u32::MAX).to_le_bytes());
    for (at, ask) in asks.iter().enumerate() {
        let rate = &ask.limit.rate;
        let kind = match rate.algorithm {
            Algorithm::FixedWindow => 0,
            Algorithm::SlidingLog => 1,
            Algorithm::Gcra => 2,
        };
        packed.extend_from_slice(&[kind, u8::from(ask.limit.is_enforced())]);
        packed.extend_from_slice(&rate.capacity.to_le_bytes());
        packed.extend_from_slice(&rate.requests.to_le_bytes());
        packed.extend_from_slice(&millis(rate.window).to_le_bytes());
        packed.extend_from_slice(&ask.cost.to_le_bytes());
        packed.extend_from_slice(&debt(at).to_le_bytes());
    }
    packed
}

/// The answers to questions about so many limits each, in their order; `None` for a reply that is none.
pub fn answers(mut reply: &[u8], limits: impl Iterator<Item = usize>) -> Option<Vec<Result<Count, StoreError>>> {
    let now = UnixMillis(u64::from_le_bytes(take(&mut reply)?));
    let answers = limits.map(|limits| {
        let Ok(granted) = u32::try_from(i32::from_le_bytes(take(&mut reply)?)) else {
            return Some(Err(StoreError::Failed));
        };
        let tallies: Option<Vec<Tally>> = (0..limits).map(|_| tally(&mut reply)).collect();
        Some(Ok(Count { granted, now, tallies: tallies? }))
    });
    let answers = answers.collect::<Option<Vec<_>>>()?;
    reply.is_empty().then_some(answers)
}

fn tally(reply: &mut &[u8]) -> Option<Tally> {
    Some(Tally {
        taken: u32::from_le_bytes(take(reply)?),
        remaining: u32::from_le_bytes(take(reply)?),
        ends: UnixMillis(u64::from_le_bytes(take(reply)?)),
        free_at: UnixMillis(u64::from_le_bytes(take(reply)?)),
    })
}

fn take<const N: usize>(octets: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = octets.split_first_chunk::<N>()?;
    *octets = rest;
    Some(*taken)
}
