//! Modules: the WebAssembly that brokers run.

use bytes::Bytes;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{ModuleName, ModuleRef};
use millstream_protocol::limits::MAX_MODULE_BYTES;
use millstream_protocol::message::module::{
    DeleteModule, DescribeModule, ListModules, ModuleDescription, UploadModule,
};
use sha2::{Digest, Sha256};

use super::Admin;
use crate::error::ClientError;

impl Admin {
    /// Uploads a component as the next version of a module. The same bytes again are the same
    /// version, so that an upload whose answer was lost can be repeated.
    ///
    /// # Errors
    /// The broker says what is wrong with the bytes, by the name of the import or export it is about.
    pub async fn upload_module(
        &self,
        name: &str,
        wasm: impl Into<Bytes>,
    ) -> Result<ModuleDescription, ClientError> {
        self.upload_module_watched(name, wasm, &|_| ()).await
    }

    /// The same, and tells how many bytes were sent, each time when it is more: for a progress bar. It begins again
    /// when the upload does, after a lost connection.
    ///
    /// # Errors
    /// As [`upload_module`](Self::upload_module).
    pub async fn upload_module_watched(
        &self,
        name: &str,
        wasm: impl Into<Bytes>,
        sent: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<ModuleDescription, ClientError> {
        let (name, wasm) = (ModuleName::new(name)?, wasm.into());
        let size = wasm.len() as u64;
        if MAX_MODULE_BYTES < wasm.len() {
            let reason = format!("module {name} has {size} bytes: the most is {MAX_MODULE_BYTES}");
            return Err(WireError::new(ErrorCode::TooLarge, reason).into());
        }
        let sha256 = hex(&Sha256::digest(&wasm));
        self.client.call_watched(UploadModule { name, sha256, size }, wasm, sent).await
    }

    /// Lists every version of every module.
    ///
    /// # Errors
    /// As [`crate::Client::call`].
    pub async fn list_modules(&self) -> Result<Vec<ModuleDescription>, ClientError> {
        self.client.call(ListModules {}).await
    }

    /// Describes one version.
    ///
    /// # Errors
    /// As [`crate::Client::call`].
    pub async fn describe_module(
        &self,
        module: ModuleRef,
    ) -> Result<ModuleDescription, ClientError> {
        self.client.call(DescribeModule { module }).await
    }

    /// Deletes one version that nothing uses.
    ///
    /// # Errors
    /// As [`crate::Client::call`]; the refusal names what still uses it.
    pub async fn delete_module(&self, module: ModuleRef) -> Result<(), ClientError> {
        self.client.call(DeleteModule { module }).await
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_written_as_the_protocol_wants_it() {
        let digest = hex(&Sha256::digest(b"abc"));
        assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
