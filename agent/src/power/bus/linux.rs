//! The I²C bus of a Linux board: `/dev/i2c-N` and its one ioctl, I2C_RDWR;
//! beside it the one ioctl by which a Raspberry Pi's firmware is asked.
//!
//! Owns the file, the message array and the mapping of errno. Never sets a
//! slave address: addresses travel in the messages, so that neither the force
//! flag of `i2c-linux-sys` (inverted in 0.2.1) nor another user of the file
//! can matter. I2C_RDWR has no busy check of its own: whether a kernel driver
//! holds a chip is asked in [`crate::power::discover`]. The ioctl is called here
//! and not through `i2c-linux-sys`, whose wrapper drops the count of messages.
//! Source: Linux Documentation/i2c/dev-interface.rst, `uapi/linux/i2c-dev.h`.
#![expect(unsafe_code, reason = "the two ioctls of the agent")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

use i2c_linux_sys::{Flags, I2C_RDWR, i2c_msg, i2c_rdwr_ioctl_data};

use super::{Address7, BusError, I2cBus, MESSAGES_MAX, Message};

/// An open adapter.
#[derive(Debug)]
pub struct LinuxBus {
    file: File,
    reach: Reach,
}

/// What the adapter's driver takes in one transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// All messages.
    Combined,
    /// So many at once, and an even number: a virtual adapter's ring has no more
    /// places (`i2c-virtio.c` then gives a short count). As with pairs, others may
    /// come between.
    Few(usize),
    /// A write and a read: the BCM2835 of a Raspberry Pi up to 4 allows one
    /// read, as the last message (EOPNOTSUPP, `i2c-bcm2835.c`). A sweep is then
    /// one transfer a register, and others may come between.
    Pairs,
}

impl LinuxBus {
    /// Opens `/dev/i2c-<number>` for reading and writing.
    ///
    /// # Errors
    /// The kernel's error: `NotFound` without the adapter or the module
    /// `i2c-dev`, `PermissionDenied` outside the group `i2c`.
    pub fn open(number: u8) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(format!("/dev/i2c-{number}"))?;
        Ok(Self { file, reach: Reach::Combined })
    }
}

impl I2cBus for LinuxBus {
    fn transfer(
        &mut self,
        address: Address7,
        messages: &mut [Message<'_>],
    ) -> Result<(), BusError> {
        let few = match self.reach {
            Reach::Combined => {
                let done = self.combined(address, messages);
                if let Ok(count) = done
                    && let Some(few) = fewer(messages.len(), count)
                {
                    // A chip that fell silent in the middle fails in the rest as well.
                    self.in_parts(address, messages, few)?;
                    self.reach = Reach::Few(few);
                    return Ok(());
                }
                if !is_too_much(&done) || messages.len() <= PAIR {
                    return whole(address, messages.len(), done?);
                }
                self.reach = Reach::Pairs;
                PAIR
            }
            Reach::Few(few) => few,
            Reach::Pairs => PAIR,
        };
        self.in_parts(address, messages, few)
    }
}

impl LinuxBus {
    fn in_parts(
        &self,
        address: Address7,
        messages: &mut [Message<'_>],
        few: usize,
    ) -> Result<(), BusError> {
        messages.chunks_mut(few).try_for_each(|part| {
            let done = self.combined(address, part)?;
            whole(address, part.len(), done)
        })
    }

    /// One call; returns how many messages were exchanged.
    fn combined(&self, address: Address7, messages: &mut [Message<'_>]) -> Result<usize, BusError> {
        let mut array = [EMPTY; MESSAGES_MAX];
        let filled = fill(&mut array, address, messages)?;
        let asked = i32::try_from(filled.len()).unwrap_or(i32::MAX);
        let mut request = i2c_rdwr_ioctl_data { msgs: filled.as_mut_ptr(), nmsgs: asked };
        // SAFETY: `request` names `filled` and its length. `fill` put into each
        // of these messages the pointer and the length of one slice of
        // `messages`, which is borrowed mutably until this function returns;
        // the kernel reads through the pointers of writes, writes through
        // those of reads (both to `len` bytes), and keeps none after the call.
        // The descriptor is open while `self` is.
        let done = unsafe {
            libc::ioctl(self.file.as_raw_fd(), libc::Ioctl::from(I2C_RDWR), &raw mut request)
        };
        if done < 0 {
            let error = io::Error::last_os_error();
            return Err(from_errno(address, error.raw_os_error().unwrap_or(0)));
        }
        Ok(usize::try_from(done).unwrap_or(0))
    }
}

/// `_IOWR(100, 0, char *)` of a 64-bit kernel: IOCTL_MBOX_PROPERTY of vcio.
const MBOX_PROPERTY: libc::Ioctl = 0xC008_6400;

/// Gives a property message to the firmware of a Raspberry Pi (`/dev/vcio`) and
/// takes its answer in place. The first word is the message's length in bytes.
///
/// # Errors
/// `InvalidInput` where the first word is another length, else the kernel's.
pub fn firmware_property(vcio: &File, message: &mut [u32]) -> io::Result<()> {
    let told = message.first().and_then(|&bytes| usize::try_from(bytes).ok());
    if told != Some(size_of_val(message)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the driver reads and writes as many bytes behind the pointer as
    // the first word says, which was just seen to be the slice's own length;
    // the slice is borrowed mutably until this function returns, and the
    // driver keeps no pointer. The descriptor is open while `vcio` is.
    let done = unsafe { libc::ioctl(vcio.as_raw_fd(), MBOX_PROPERTY, message.as_mut_ptr()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Pointer write and read.
const PAIR: usize = 2;

/// Whether the adapter's driver refused the number or order of messages.
fn is_too_much<T>(done: &Result<T, BusError>) -> bool {
    let refused = nix::errno::Errno::EOPNOTSUPP as i32;
    matches!(done, Err(BusError::Failed { errno, .. }) if *errno == refused)
}

const EMPTY: i2c_msg =
    i2c_msg { addr: 0, flags: Flags::empty(), len: 0, buf: core::ptr::null_mut() };

/// Writes the kernel's form of `messages` into `array`; returns what is used.
fn fill<'a>(
    array: &'a mut [i2c_msg; MESSAGES_MAX],
    address: Address7,
    messages: &mut [Message<'_>],
) -> Result<&'a mut [i2c_msg], BusError> {
    let count = messages.len();
    let used = array.get_mut(..count).ok_or(BusError::TooManyMessages { count })?;
    for (slot, message) in used.iter_mut().zip(messages) {
        let (flags, len, buf) = match message {
            Message::Write(bytes) => (Flags::empty(), bytes.len(), bytes.as_ptr().cast_mut()),
            Message::Read(bytes) => (Flags::RD, bytes.len(), bytes.as_mut_ptr()),
        };
        let len = u16::try_from(len).map_err(|_| BusError::Failed {
            address: address.get(),
            errno: nix::errno::Errno::EMSGSIZE as i32,
        })?;
        *slot = i2c_msg { addr: u16::from(address.get()), flags, len, buf };
    }
    Ok(used)
}

/// ENXIO and EREMOTEIO both say "not acknowledged"; which one depends on the
/// adapter's driver (Documentation/i2c/fault-codes.rst).
fn from_errno(address: Address7, errno: i32) -> BusError {
    let address = address.get();
    match nix::errno::Errno::from_raw(errno) {
        nix::errno::Errno::ENXIO | nix::errno::Errno::EREMOTEIO => BusError::NoAnswer { address },
        _ => BusError::Failed { address, errno },
    }
}

/// A transfer of `asked` messages of which the kernel says that `done` were
/// exchanged. Fewer is how some adapters report a missing acknowledge
/// (`i2c-virtio.c` ends the count at the first message that failed): the bytes
/// of the rest are what they were before the call, and no answer.
const fn whole(address: Address7, asked: usize, done: usize) -> Result<(), BusError> {
    if done == asked { Ok(()) } else { Err(BusError::NoAnswer { address: address.get() }) }
}

/// How many messages to try at once where `done` of `asked` were exchanged and the
/// rest may have been too many: whole pairs of pointer write and read. `None` where
/// that is no explanation, because not even a pair was exchanged.
const fn fewer(asked: usize, done: usize) -> Option<usize> {
    let few = done - done % PAIR;
    if done < asked && few > 0 { Some(few) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_40() -> Address7 {
        Address7::new(0x40).unwrap()
    }

    #[test]
    fn a_register_read_becomes_a_write_and_a_read_at_the_same_address() {
        let pointer = [0x0f];
        let mut value = [0; 2];
        let expected = (pointer.as_ptr().cast_mut(), value.as_mut_ptr());
        let mut array = [EMPTY; MESSAGES_MAX];
        let mut messages = [Message::Write(&pointer), Message::Read(&mut value)];
        let filled = fill(&mut array, at_40(), &mut messages).unwrap();
        let parts: Vec<_> = filled.iter().map(|m| (m.addr, m.flags.bits(), m.len, m.buf)).collect();
        assert_eq!(parts, [(0x40, 0, 1, expected.0), (0x40, 1, 2, expected.1)]);
    }

    #[test]
    fn the_43rd_message_is_refused_before_the_kernel_sees_it() {
        let mut messages: Vec<Message<'_>> = (0..43).map(|_| Message::Write(&[0])).collect();
        let mut array = [EMPTY; MESSAGES_MAX];
        let refused = fill(&mut array, at_40(), &mut messages).err();
        assert_eq!(refused, Some(BusError::TooManyMessages { count: 43 }));
    }

    #[test]
    fn both_errnos_of_a_missing_acknowledge_are_no_answer() {
        for errno in [6, 121] {
            assert_eq!(from_errno(at_40(), errno), BusError::NoAnswer { address: 0x40 });
        }
        let timeout = BusError::Failed { address: 0x40, errno: 110 };
        assert_eq!(from_errno(at_40(), 110), timeout);
    }

    #[test]
    fn a_short_count_of_messages_is_no_answer_and_no_reading_of_zeros() {
        assert_eq!(whole(at_40(), 12, 12), Ok(()));
        for done in [0, 1, 11] {
            assert_eq!(whole(at_40(), 12, done), Err(BusError::NoAnswer { address: 0x40 }));
        }
    }

    #[test]
    fn an_adapter_that_takes_few_messages_is_given_whole_pairs() {
        assert_eq!(fewer(14, 4), Some(4));
        assert_eq!(fewer(14, 7), Some(6));
        // All of them, a pair that failed, a chip that is not there.
        for (asked, done) in [(14, 14), (2, 2), (2, 1), (14, 1), (14, 0)] {
            assert_eq!(fewer(asked, done), None, "{done} of {asked}");
        }
    }

    #[test]
    fn a_firmware_message_of_another_length_never_reaches_the_kernel() {
        let null = File::open("/dev/null").unwrap();
        for mut message in [vec![], vec![4, 0], vec![12, 0], vec![u32::MAX, 0]] {
            let refused = firmware_property(&null, &mut message).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        }
        // Whole, it does; what is no firmware does not know the request.
        let refused = firmware_property(&null, &mut [8, 0]).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(nix::errno::Errno::ENOTTY as i32));
    }

    #[test]
    fn a_refused_combination_is_told_from_a_failed_one() {
        assert!(is_too_much::<usize>(&Err(from_errno(at_40(), 95))));
        assert!(!is_too_much::<usize>(&Err(from_errno(at_40(), 110))));
        assert!(!is_too_much(&Ok(2)));
    }
}
