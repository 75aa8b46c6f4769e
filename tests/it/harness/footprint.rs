//! What a process holds, as /proc tells it.

/// Memory in KiB, and counts.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// The memory that is in use.
    pub resident: u64,
    /// The most that ever was, give or take some pages: the kernel counts on each core by itself.
    pub peak: u64,
    /// Its threads.
    pub threads: u64,
    /// Its open files, sockets among them.
    pub files: usize,
}

impl Footprint {
    /// That of a process.
    pub fn of(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
        };
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        Self { resident: number("VmRSS"), peak: number("VmHWM"), threads: number("Threads"), files }
    }
}
