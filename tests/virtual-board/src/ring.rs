//! The virtio ring: requests of the guest's adapter, as transfers on the wire.
//!
//! Owns the layout of a virtio-i2c request and which requests are one transfer: all
//! up to the first without the flag FAIL_NEXT, which the guest's driver sets on each
//! message but the last, or as many as the ring has places. A failed transfer fails every one of its messages.
//! Source: Virtual I/O Device 1.2, "I2C Adapter Device"; Linux `i2c-virtio.c`.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringT};
use virtio_bindings::virtio_config::{VIRTIO_F_NOTIFY_ON_EMPTY, VIRTIO_F_VERSION_1};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};

use crate::log::Part;
use crate::wire::Wire;

/// VIRTIO_I2C_F_ZERO_LENGTH_REQUEST, which Linux's driver insists on.
const ZERO_LENGTH_REQUEST: u64 = 1;
/// VIRTIO_I2C_FLAGS_FAIL_NEXT and VIRTIO_I2C_FLAGS_M_RD.
const FAIL_NEXT: u32 = 1;
const READ: u32 = 2;
/// VIRTIO_I2C_MSG_OK and VIRTIO_I2C_MSG_ERR.
const STATUS_OK: u8 = 0;
const STATUS_ERROR: u8 = 1;
/// Longest message that is taken; a chip's registers have three bytes at most.
const MESSAGE_MAX: u32 = 4_096;
/// Messages of one transfer that are kept for its end: the kernel's own bound.
const MESSAGES_MAX: usize = 42;

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// One message of the guest, and where its answer goes.
struct Request {
    head: u16,
    address: u8,
    is_last: bool,
    /// The message, and where a read's bytes go. `None`: the guest broke the layout.
    part: Option<(Part, GuestAddress)>,
    status: GuestAddress,
}

/// Serves one guest at a time on `socket`, for ever. A guest that goes takes the
/// chips' supply with it; the next may come at once.
///
/// # Errors
/// The socket's, where it cannot be made.
pub fn serve(socket: &Path, wire: &Arc<Mutex<Wire>>) -> io::Result<()> {
    loop {
        lock(wire).cycle_power();
        let adapter =
            Adapter { wire: Arc::clone(wire), memory: None, has_index: false, open: vec![] };
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let adapter = Arc::new(Mutex::new(adapter));
        let mut daemon = VhostUserDaemon::new("i2c".to_owned(), adapter, memory)
            .map_err(|error| io::Error::other(format!("{error:?}")))?;
        // However the guest went, the next one is waited for.
        if let Err(error) = daemon.serve(socket) {
            eprintln!("guest: {error:?}");
        }
    }
}

fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    // A holder that panicked has ended the process.
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Adapter {
    wire: Arc<Mutex<Wire>>,
    memory: Option<Memory>,
    has_index: bool,
    /// Messages of a transfer whose last one has not come yet.
    open: Vec<Request>,
}

impl Adapter {
    /// Answers all that the ring holds.
    fn answer(&mut self, vring: &VringRwLock) -> io::Result<()> {
        let Some(atomic) = self.memory.clone() else { return Ok(()) };
        let places = usize::from(vring.get_ref().get_queue().size());
        let memory = atomic.memory();
        let chains: Vec<_> = vring
            .get_mut()
            .get_queue_mut()
            .iter(atomic.memory())
            .map_err(io::Error::other)?
            .collect();
        for chain in chains {
            let head = chain.head_index();
            let descriptors: Vec<Descriptor> = chain.collect();
            let Some(request) = request(&memory, head, &descriptors)? else {
                vring.add_used(head, 0).map_err(io::Error::other)?;
                continue;
            };
            let is_last = request.is_last;
            self.open.push(request);
            // The driver gives what the ring has room for and waits for it, the rest
            // or no rest: QEMU's adapter has a ring of four.
            if is_last || self.open.len() == MESSAGES_MAX || self.open.len() == places {
                self.perform(&memory, vring)?;
            }
        }
        vring.signal_used_queue()
    }

    /// Performs the open transfer and gives its requests back.
    fn perform(&mut self, memory: &GuestMemoryMmap, vring: &VringRwLock) -> io::Result<()> {
        let requests = core::mem::take(&mut self.open);
        let address = requests.first().map_or(0, |request| request.address);
        let is_whole =
            requests.iter().all(|request| request.part.is_some() && request.address == address);
        let mut parts: Vec<Part> = requests
            .iter()
            .filter_map(|request| request.part.as_ref().map(|(part, _)| part.clone()))
            .collect();
        let is_ok = is_whole && lock(&self.wire).transfer(address, &mut parts)?;
        let status = if is_ok { STATUS_OK } else { STATUS_ERROR };
        let mut answers = parts.into_iter();
        for request in requests {
            let mut used = 1;
            if let Some((_, place)) = request.part
                && let Some(Part::Read(bytes)) = answers.next()
                && is_ok
            {
                memory.write_slice(&bytes, place).map_err(io::Error::other)?;
                used += u32::try_from(bytes.len()).map_err(io::Error::other)?;
            }
            memory.write_slice(&[status], request.status).map_err(io::Error::other)?;
            vring.add_used(request.head, used).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

/// Reads a chain: the head (address, flags), bytes where there are some, the
/// place of the status. `None` for a chain without room for an answer.
fn request(
    memory: &GuestMemoryMmap,
    head: u16,
    descriptors: &[Descriptor],
) -> io::Result<Option<Request>> {
    let (first, middle, last) = match descriptors {
        [first, last] => (first, None, last),
        [first, middle, last] => (first, Some(middle), last),
        _ => return Ok(None),
    };
    if !last.is_write_only() || last.len() == 0 || first.len() < 8 {
        return Ok(None);
    }
    let mut header = [0_u8; 8];
    memory.read_slice(&mut header, first.addr()).map_err(io::Error::other)?;
    let [low, high, _, _, flags @ ..] = header;
    let flags = u32::from_le_bytes(flags);
    // The address is that of the wire: the 7 bits stand above the direction's.
    let address = u8::try_from(u16::from_le_bytes([low, high]) >> 1).unwrap_or(u8::MAX);
    let part = match middle {
        None => Some((Part::Write(Vec::new()), last.addr())),
        Some(bytes) => part(memory, bytes, flags & READ != 0)?,
    };
    let is_last = flags & FAIL_NEXT == 0;
    Ok(Some(Request { head, address, is_last, part, status: last.addr() }))
}

fn part(
    memory: &GuestMemoryMmap,
    bytes: &Descriptor,
    is_read: bool,
) -> io::Result<Option<(Part, GuestAddress)>> {
    if bytes.len() > MESSAGE_MAX || bytes.is_write_only() != is_read {
        return Ok(None);
    }
    let mut buffer = vec![0; usize::try_from(bytes.len()).map_err(io::Error::other)?];
    if is_read {
        return Ok(Some((Part::Read(buffer), bytes.addr())));
    }
    memory.read_slice(&mut buffer, bytes.addr()).map_err(io::Error::other)?;
    Ok(Some((Part::Write(buffer), bytes.addr())))
}

impl VhostUserBackendMut for Adapter {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        1
    }

    fn max_queue_size(&self) -> usize {
        1_024
    }

    fn features(&self) -> u64 {
        // Without the last two of the ring's, QEMU 7.2 gives up on the socket.
        ZERO_LENGTH_REQUEST
            | 1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | 1 << VIRTIO_F_NOTIFY_ON_EMPTY
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ
    }

    fn set_event_idx(&mut self, enabled: bool) {
        self.has_index = enabled;
    }

    fn update_memory(&mut self, memory: Memory) -> io::Result<()> {
        self.memory = Some(memory);
        // A ring that is set up anew holds nothing of the one before.
        self.open.clear();
        Ok(())
    }

    /// Without it the worker never ends when a guest goes, and no other is served.
    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::NONBLOCK).ok()
    }

    fn handle_event(
        &mut self,
        _event: u16,
        _set: EventSet,
        vrings: &[VringRwLock],
        _thread: usize,
    ) -> io::Result<()> {
        let Some(vring) = vrings.first() else { return Ok(()) };
        if !self.has_index {
            return self.answer(vring);
        }
        loop {
            vring.disable_notification().map_err(io::Error::other)?;
            self.answer(vring)?;
            if !vring.enable_notification().map_err(io::Error::other)? {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virtio_bindings::virtio_ring::VRING_DESC_F_WRITE;

    const HEADER: u64 = 0x100;
    const BYTES: u64 = 0x200;
    const STATUS: u64 = 0x300;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap()
    }

    fn descriptor(at: u64, len: u32, is_answer: bool) -> Descriptor {
        let flags = if is_answer { u16::try_from(VRING_DESC_F_WRITE).unwrap() } else { 0 };
        Descriptor::new(at, len, flags, 0)
    }

    fn head(memory: &GuestMemoryMmap, address: u16, flags: u32) {
        let mut header = [0; 8];
        header[..2].copy_from_slice(&(address << 1).to_le_bytes());
        header[4..].copy_from_slice(&flags.to_le_bytes());
        memory.write_slice(&header, GuestAddress(HEADER)).unwrap();
    }

    #[test]
    fn a_chain_of_the_guest_is_a_message() {
        let memory = memory();
        head(&memory, 0x40, FAIL_NEXT);
        memory.write_slice(&[0x0f], GuestAddress(BYTES)).unwrap();
        let chain = [
            descriptor(HEADER, 8, false),
            descriptor(BYTES, 1, false),
            descriptor(STATUS, 1, true),
        ];
        let written = request(&memory, 3, &chain).unwrap().unwrap();
        assert_eq!((written.head, written.address, written.is_last), (3, 0x40, false));
        assert_eq!(written.part, Some((Part::Write(vec![0x0f]), GuestAddress(BYTES))));

        head(&memory, 0x41, READ);
        let chain =
            [descriptor(HEADER, 8, false), descriptor(BYTES, 2, true), descriptor(STATUS, 1, true)];
        let read = request(&memory, 4, &chain).unwrap().unwrap();
        assert_eq!((read.address, read.is_last), (0x41, true));
        assert_eq!(read.part, Some((Part::Read(vec![0; 2]), GuestAddress(BYTES))));

        // A probe has no bytes.
        let chain = [descriptor(HEADER, 8, false), descriptor(STATUS, 1, true)];
        let probe = request(&memory, 5, &chain).unwrap().unwrap();
        assert_eq!(probe.part, Some((Part::Write(vec![]), GuestAddress(STATUS))));
    }

    #[test]
    fn a_guest_that_breaks_the_layout_gets_an_error_and_no_memory() {
        let memory = memory();
        head(&memory, 0x40, READ);
        let status = descriptor(STATUS, 1, true);
        // No place for the status.
        let deaf = [descriptor(HEADER, 8, false), descriptor(STATUS, 1, false)];
        assert!(request(&memory, 0, &deaf).unwrap().is_none());
        assert!(request(&memory, 0, &[status]).unwrap().is_none());
        // A read into what the guest only lends, and one without end.
        for bytes in [descriptor(BYTES, 2, false), descriptor(BYTES, u32::MAX, true)] {
            let chain = [descriptor(HEADER, 8, false), bytes, status];
            assert_eq!(request(&memory, 0, &chain).unwrap().unwrap().part, None);
        }
    }
}
