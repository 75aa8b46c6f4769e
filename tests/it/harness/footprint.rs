//! What a process holds, as /proc tells it.

/// Memory in KiB.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// The most that ever was in use.
    pub peak: u64,
}

impl Footprint {
    /// That of a process.
    pub fn of(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
        };
        Self { peak: number("VmHWM") }
    }
}
