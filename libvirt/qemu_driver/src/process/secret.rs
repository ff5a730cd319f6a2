//! Secrets of guests: the daemon that keeps them is asked, and what the emulator is told is sealed with the guest's key.

use crate::core::Core;
use crate::error::{Result, internal, system, unsupported};
use crate::uuid;
use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockEncryptMut as _, KeyIvInit as _};
use qemu_command::Sealed;
use rpc::procedure::Secondary;
use rpc::protocol::secret::{SecretGetValueArgs, SecretLookupByUsageArgs, SecretLookupByUuidArgs};
use sha2::{Digest as _, Sha256};
use std::path::Path;
use std::time::Duration;

/// How long the daemon may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The file with the key, in the guest's directory.
pub(super) const KEY_FILE: &str = "master-key.aes";

/// What only the guest's emulator and its daemon know.
pub(super) struct Key([u8; 32]);

impl Key {
    /// The key of the guest with that directory.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(KEY_FILE);
        let read = std::fs::read(&path)
            .map_err(|error| system(&error, &format!("failed to read '{}'", path.display())))?;
        let key = read.try_into().map_err(|_| internal(format!("'{}' is no key", path.display())))?;
        Ok(Self(key))
    }

    /// A key that nobody knows.
    pub(super) fn random() -> Result<Self> {
        crate::files::random().map(Self).map_err(|error| system(&error, "no random numbers"))
    }

    /// Seals a text: AES-256-CBC, as the emulator's objects of type `secret` take it.
    pub(super) fn seal(&self, plain: &[u8], iv: [u8; 16]) -> Sealed {
        let cipher = cbc::Encryptor::<Aes256>::new(&self.0.into(), &iv.into());
        let data = cipher.encrypt_padded_vec_mut::<Pkcs7>(plain);
        Sealed { data: crate::base64::encode(&data), iv: crate::base64::encode(&iv) }
    }

    /// As [`Key::seal`], and the same each time, so that two command lines can be compared.
    pub(super) fn seal_again(&self, plain: &[u8]) -> Sealed {
        let digest = Sha256::new().chain_update(self.0).chain_update(plain).finalize();
        let mut iv = [0; 16];
        iv.copy_from_slice(&digest[..16]);
        self.seal(plain, iv)
    }
}

/// `virSecretUsageType` by the words of domains.
fn usage_type(word: &str) -> Option<i32> {
    match word {
        "volume" | "passphrase" => Some(1),
        "ceph" => Some(2),
        "iscsi" => Some(3),
        "tls" => Some(4),
        "vtpm" => Some(5),
        _ => None,
    }
}

impl Core {
    /// The secret that `uuid:UUID` or `TYPE:USAGE` means.
    ///
    /// # Errors
    /// The daemon cannot be reached, or does not have it.
    pub(super) fn secret(&self, reference: &str) -> Result<Vec<u8>> {
        let (kind, name) = reference.split_once(':').unwrap_or(("", reference));
        let usage = match kind {
            "uuid" => None,
            other => {
                Some(usage_type(other).ok_or_else(|| unsupported(format!("unknown secret type '{other}'")))?)
            }
        };
        let mut daemon = super::network::daemon(self, Secondary::Secret, PATIENCE)?;
        let secret = match usage {
            None => {
                let uuid =
                    uuid::parse(name).ok_or_else(|| internal(format!("malformed secret uuid '{name}'")))?;
                daemon.call(&SecretLookupByUuidArgs { uuid })?.secret
            }
            Some(usage_type) => {
                daemon.call(&SecretLookupByUsageArgs { usage_type, usage_id: name.to_owned() })?.secret
            }
        };
        Ok(daemon.call(&SecretGetValueArgs { secret, flags: 0 })?.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NIST SP 800-38A, F.2.5: the first block, and what the padding adds.
    #[test]
    fn sealed_as_the_standard_has_it() {
        let bytes = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let key = bytes("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        let iv = bytes("000102030405060708090a0b0c0d0e0f");
        let plain = bytes("6bc1bee22e409f96e93d7e117393172a");
        let key = Key(key.try_into().unwrap());
        let sealed = key.seal(&plain, iv.try_into().unwrap());
        let block = crate::base64::encode(&bytes("f58c4c04d6e5f1ba779eabfb5f7bfbd6"));
        // 16 bytes are 21 characters and two bits.
        assert_eq!(sealed.data[..21], block[..21]);
        assert_eq!((sealed.data.len(), sealed.iv.as_str()), (44, "AAECAwQFBgcICQoLDA0ODw=="));
        assert_eq!(key.seal_again(b"x"), key.seal_again(b"x"));
        assert_ne!(key.seal_again(b"x").iv, key.seal_again(b"y").iv);
    }
}
