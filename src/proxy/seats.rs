//! A bounded number of seats: connections and requests in flight, counted by guards that cannot be forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;
use tokio::sync::Notify;

/// How many are taken, and whether one more may be.
#[derive(Debug)]
pub struct Seats {
    taken: AtomicUsize,
    emptied: Notify,
}

/// A taken seat, given back when it is dropped: after a panic and a vanished client too.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    gauge: IntGauge,
}

impl Seats {
    /// No seat taken.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), emptied: Notify::new() })
    }

    /// Takes a seat, shown on `gauge`, unless `most` are taken.
    pub fn take(self: &Arc<Self>, most: usize, gauge: &IntGauge) -> Option<Seat> {
        let seat = Seat { seats: Arc::clone(self), gauge: gauge.clone() };
        gauge.inc();
        // Counted first and given back by the guard if it was one too many: two at once cannot both take the last seat.
        (self.taken.fetch_add(1, Ordering::AcqRel) < most).then_some(seat)
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    /// Waits until none is taken.
    pub async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.taken() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.gauge.dec();
        if self.seats.taken.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.seats.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_seat_too_many_is_refused_and_a_dropped_one_is_free_again() {
        let (seats, gauge) = (Seats::new(), IntGauge::new("g", "h").unwrap());
        let first = seats.take(1, &gauge);
        assert!(first.is_some() && seats.take(1, &gauge).is_none());
        assert_eq!((seats.taken(), gauge.get()), (1, 1));
        drop(first);
        seats.empty().await;
        assert!(seats.take(1, &gauge).is_some());
        assert_eq!(gauge.get(), 0);
    }
}
