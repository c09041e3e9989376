//! Random nights: appends, syncs, faults, full disks, power cuts and a host
//! that fetches in between. What was promised reaches the host exactly once.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::spool::model::ModelFault;

type Number = (u32, u32, u64);

#[derive(Debug, Clone, Copy)]
enum Action {
    Append { stream: u32, bytes: usize },
    Sync,
    Fetch,
    Fault { after: u64, fault: ModelFault },
    Fill { free_bytes: u64 },
    MakeSpace,
    CutPower { seed: u64 },
    KillAgent,
}

fn action() -> impl Strategy<Value = Action> {
    let fault = prop_oneof![Just(ModelFault::Io), Just(ModelFault::Full)];
    prop_oneof![
        20 => (0_u32..3, 0_usize..900).prop_map(|(stream, bytes)| Action::Append { stream, bytes }),
        6 => Just(Action::Sync),
        3 => Just(Action::Fetch),
        2 => (0_u64..6, fault).prop_map(|(after, fault)| Action::Fault { after, fault }),
        1 => (0_u64..3000).prop_map(|free_bytes| Action::Fill { free_bytes }),
        2 => Just(Action::MakeSpace),
        2 => any::<u64>().prop_map(|seed| Action::CutPower { seed }),
        1 => Just(Action::KillAgent),
    ]
}

/// A board with its disk, a host, and what a checker knows of both.
struct Night {
    model: ModelStorage,
    spool: Spool,
    log: RunLog,
    epoch: u32,
    next: BTreeMap<u32, u64>,
    appended: BTreeMap<Number, Vec<u8>>,
    dropped: Vec<Gap>,
    promised: BTreeMap<(u32, u32), u64>,
    host: BTreeMap<Number, Vec<u8>>,
    watermarks: BTreeMap<(u32, u32), u64>,
}

impl Night {
    fn begin() -> Self {
        let model = ModelStorage::new();
        let spool = open(&model);
        let epoch = spool.raise_epoch("boot").unwrap().epoch;
        let log = spool.create_run(&run_id()).unwrap();
        Self {
            model,
            spool,
            log,
            epoch,
            next: BTreeMap::new(),
            appended: BTreeMap::new(),
            dropped: Vec::new(),
            promised: BTreeMap::new(),
            host: BTreeMap::new(),
            watermarks: BTreeMap::new(),
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Append { stream, bytes } => self.append(stream, bytes),
            Action::Sync => {
                if self.log.sync().is_ok() {
                    let progress = self.log.progress();
                    assert_eq!(progress.appended, progress.durable);
                }
                self.note_promises();
            }
            Action::Fetch => self.fetch(),
            Action::Fault { after, fault } => {
                self.model.fail_operation(self.model.operations() + after, fault);
            }
            Action::Fill { free_bytes } => {
                self.model.set_capacity(None);
                let used = u64::MAX - self.model.free_bytes().unwrap();
                let files = self.model.files();
                let bytes: u64 = files.iter().map(|name| self.model.length(name).unwrap()).sum();
                self.model.set_capacity(Some(used + bytes + free_bytes));
            }
            Action::MakeSpace => self.model.set_capacity(None),
            Action::CutPower { seed } => {
                self.model.cut_power(seed);
                self.restart();
            }
            Action::KillAgent => self.restart(),
        }
    }

    /// Of earlier epochs nothing new is promised: what recovery found of their
    /// unsynced tails may have holes.
    fn note_promises(&mut self) {
        let ends = self.log.durable_ends();
        for end in ends.iter().filter(|end| end.epoch == self.epoch) {
            self.promised.insert((end.epoch, end.stream), end.next);
        }
    }

    fn append(&mut self, stream: u32, bytes: usize) {
        let next = self.next.entry(stream).or_insert(0);
        let (kind, count) = if stream == 2 { (kind::SAMPLE_BLOCK, 64) } else { (EVENT, 1) };
        let bytes = frame(kind, identity(self.epoch, stream, *next), count, bytes);
        self.dropped.extend(self.log.append(&bytes).unwrap());
        self.appended.insert((self.epoch, stream, *next), bytes);
        *next += u64::from(count);
    }

    fn fetch(&mut self) {
        let marks: Vec<StreamEnd> = self
            .watermarks
            .iter()
            .map(|(&(epoch, stream), &next)| StreamEnd { epoch, stream, next })
            .collect();
        for item in read_from(&self.spool, &run_id(), &marks) {
            if let Item::Frame(got) = item {
                let Identity { epoch, stream, sequence } = got.header.identity;
                let next = sequence + u64::from(got.header.count);
                let before = self.watermarks.insert((epoch, stream), next);
                assert!(before.unwrap_or(0) <= sequence, "out of order or twice");
                self.host.insert((epoch, stream, sequence), got.bytes.to_vec());
            }
        }
    }

    /// The agent starts on what the disk has; the check of each start.
    fn restart(&mut self) {
        self.model.set_capacity(None);
        self.spool = open(&self.model);
        if self.spool.recovered().is_empty() {
            assert!(self.promised.is_empty());
            // A fault that was meant for the night before may meet this start.
            let created = (0..9).find_map(|_| self.spool.create_run(&run_id()).ok());
            self.log = created.expect("a disk with space takes a run");
        } else {
            self.check();
            self.log = self.spool.resume_run(&run_id()).unwrap();
        }
        let before = self.epoch;
        let raised = (0..9).find_map(|_| self.spool.raise_epoch("boot").ok());
        self.epoch = raised.expect("a disk with space raises the epoch").epoch;
        assert!(self.epoch > before);
        self.next.clear();
    }

    fn check(&self) {
        let items = read_all(&self.spool, &run_id());
        let mut found = BTreeMap::new();
        let mut last: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for item in &items {
            match item {
                Item::Frame(got) => {
                    let Identity { epoch, stream, sequence } = got.header.identity;
                    let written = self.appended.get(&(epoch, stream, sequence));
                    assert_eq!(written.map(Vec::as_slice), Some(&got.bytes[..]), "invented");
                    let before = last.insert((epoch, stream), sequence);
                    assert!(before.is_none_or(|before| before < sequence), "order");
                    found.insert((epoch, stream, sequence), ());
                }
                Item::Damage { .. } => {}
                Item::Hole(gap) => assert!(!self.is_promised((gap.epoch, gap.stream, gap.from))),
            }
        }
        for number in self.appended.keys().filter(|number| self.is_promised(**number)) {
            assert!(found.contains_key(number), "{number:?} was promised, {items:?}");
        }
    }

    fn is_promised(&self, (epoch, stream, sequence): Number) -> bool {
        let below = self.promised.get(&(epoch, stream)).is_some_and(|next| sequence < *next);
        let dropped = self.dropped.iter().any(|gap| {
            (gap.epoch, gap.stream) == (epoch, stream) && (gap.from..gap.to).contains(&sequence)
        });
        below && !dropped
    }

    /// Morning: the disk is well again, the host fetches the rest.
    fn end(mut self) {
        self.model.set_capacity(None);
        // Faults that were never met are at most six operations ahead.
        while self.log.sync().is_err() {}
        self.note_promises();
        self.fetch();
        for (number, bytes) in &self.appended {
            if self.is_promised(*number) {
                assert_eq!(self.host.get(number), Some(bytes), "{number:?} never came");
            }
        }
        assert!(self.host.iter().all(|(number, bytes)| self.appended.get(number) == Some(bytes)));
        self.model.cut_power(0);
        self.spool = open(&self.model);
        if !self.spool.recovered().is_empty() {
            self.check();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_is_promised_reaches_the_host_once_whatever_the_night_brings(
        actions in proptest::collection::vec(action(), 1..120),
    ) {
        let mut night = Night::begin();
        for action in actions {
            night.act(action);
        }
        night.end();
    }
}
