//! What the script in Redis is asked and answers, in octets. Packed, because numbers as text cost both sides more than counting does.

use std::sync::Arc;

use crate::policy::limit::{Ask, Count, Limit, Tally};
use crate::policy::meter::Algorithm;
use crate::policy::time::{UnixMillis, millis};
use crate::ports::StoreError;

/// The script. Its head says how it is called.
pub const SOURCE: &str = include_str!("take.lua");

/// What one call asks: questions about counters, and the limits that these belong to.
#[derive(Default)]
pub struct Call<'q> {
    limits: Vec<&'q Arc<Limit>>,
    packed_limits: Vec<u8>,
    packed_questions: Vec<u8>,
}

impl<'q> Call<'q> {
    /// Asks how many of `requests` fit that ask the same. `debt` is what is owed for the ask at a place.
    pub fn ask(&mut self, asks: &'q [Ask], requests: u32, debt: impl Fn(usize) -> u32) {
        let size = u32::try_from(asks.len()).unwrap_or(u32::MAX);
        self.put([requests, size]);
        for (at, ask) in asks.iter().enumerate() {
            let limit = self.limit(&ask.limit);
            self.put([limit, ask.cost, debt(at)]);
        }
    }

    /// The script's arguments.
    pub fn arguments(&self) -> [&[u8]; 2] {
        [&self.packed_limits, &self.packed_questions]
    }

    fn put<const N: usize>(&mut self, numbers: [u32; N]) {
        for number in numbers {
            self.packed_questions.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// Which of the call's limits it is. There are as many as the configuration has, at most: few.
    fn limit(&mut self, limit: &'q Arc<Limit>) -> u32 {
        let known = self.limits.iter().position(|known| Arc::ptr_eq(known, limit));
        let at = known.unwrap_or_else(|| {
            self.limits.push(limit);
            self.pack(limit);
            self.limits.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    fn pack(&mut self, limit: &Limit) {
        let rate = &limit.rate;
        let kind = match rate.algorithm {
            Algorithm::FixedWindow => 0,
            Algorithm::SlidingLog => 1,
            Algorithm::Gcra => 2,
        };
        let packed = &mut self.packed_limits;
        packed.extend_from_slice(&[kind, u8::from(limit.is_enforced())]);
        packed.extend_from_slice(&rate.capacity.to_le_bytes());
        packed.extend_from_slice(&rate.requests.to_le_bytes());
        packed.extend_from_slice(&millis(rate.window).to_le_bytes());
    }
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
