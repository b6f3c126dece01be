"""The keys that prove that a job was accepted, for the gateway and the tracker."""

from pydantic import Field, SecretStr, field_validator

from milepost_contracts.errors import WeakKeyring
from milepost_contracts.ids import Keyring
from milepost_service.settings import ServiceSettings


class IdKeySettings(ServiceSettings):
    """Settings for the id keys, the same for the gateway and the tracker."""

    id_keys: SecretStr = Field(default=SecretStr(""), validate_default=True)
    """The keys that sign job ids and grants, `NUMBER:HEX[,NUMBER:HEX…]`; the first signs, all verify.

    The same for every gateway and tracker."""

    @field_validator("id_keys")
    @classmethod
    def _check_id_keys(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value():
            raise ValueError(
                "it must be set, the same for every gateway and tracker; "
                "make one with: python3 -c 'import secrets; print(\"1:\" + secrets.token_hex(32))'"
            )
        try:
            Keyring.parse(value.get_secret_value())
        except WeakKeyring as error:
            raise ValueError(str(error)) from None
        return value

    @property
    def keyring(self) -> Keyring:
        """The keys."""
        return Keyring.parse(self.id_keys.get_secret_value())
