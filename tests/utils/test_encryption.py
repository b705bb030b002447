"""Certificates are loaded where something is encrypted, and nobody is trusted without."""

from __future__ import annotations

import ssl

import pytest

from mlx_finetuning.utils import encryption


@pytest.mark.parametrize("address", ["http://127.0.0.1:11434", "HTTP://[::1]:1"])
def test_an_address_without_encryption_takes_no_certificates_and_trusts_nobody(
    address: str,
) -> None:
    context = encryption.of(address)
    assert isinstance(context, ssl.SSLContext)
    assert context.get_ca_certs() == []
    assert context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname


@pytest.mark.parametrize("address", ["https://ollama.example", "HTTPS://ollama.example", "x"])
def test_any_other_address_is_verified_as_ever(address: str) -> None:
    assert encryption.of(address) is True
