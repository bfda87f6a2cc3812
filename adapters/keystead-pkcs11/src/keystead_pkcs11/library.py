"""The library of a token, of which a process has one for all its tokens, and calls one at a time.

python-pkcs11 starts it with C_Initialize(NULL), by which an application promises not to call it from several threads
at once (PKCS#11 section 5.4), and SoftHSM then aborts the process if it is. A wrap takes well under a millisecond, or a
few over a network. Importing this module imports python-pkcs11.
"""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import Any, ClassVar

import pkcs11

from keystead.provider import ConfigError, Unavailable

one_call = threading.RLock()
"""Held during every call of any library: two modules may be one library under two names."""

_restarts = 0
"""How often a library was started again. All sessions from before are void then, and their handles are given to new
ones: whoever has one must not use it, for it may now be another token's."""


class Library:
    """A library, as one token uses it. Hold `one_call` for every method."""

    _all: ClassVar[weakref.WeakSet[Library]] = weakref.WeakSet()

    def __init__(self, module: Path) -> None:
        self.module = str(module)
        try:
            with one_call:
                self._loaded = pkcs11.lib(self.module)
        except pkcs11.PKCS11Error as exc:
            if type(exc) is pkcs11.PKCS11Error and "loading" in str(exc):
                raise ConfigError(
                    f"cannot load {module}: {exc}: install the library of the HSM, or name it in module"
                ) from None
            raise Unavailable(f"{module} does not start: {type(exc).__name__} {exc}") from None
        self._session: Any = None
        self._opened_at = -1
        self._all.add(self)

    def token(self, label: str, serial: str | None) -> Any:
        """Return the token. Raises an error of PKCS#11 if there is none, or are several."""
        wanted = {"token_label": label} | ({"token_serial": serial.encode()} if serial is not None else {})
        try:
            return self._loaded.get_token(**wanted)
        except pkcs11.NoSuchToken:
            # Some look for tokens only when they start. Not while another token is in use, which would lose its login.
            if any(other.session for other in self._all if other.module == self.module):
                raise
            self.restart()
            return self._loaded.get_token(**wanted)

    @property
    def session(self) -> Any:
        """The session of this token, if there is one that is not void."""
        return self._session if self._opened_at == _restarts else None

    def keep(self, session: Any) -> Any:
        """Have this session from now on."""
        self._session, self._opened_at = session, _restarts
        return session

    def drop(self) -> Any:
        """Forget the session, and return it if it is to be closed."""
        session, self._session = self.session, None
        return session

    def restart(self) -> None:
        """Start the library again, by which it forgets everything of this process."""
        global _restarts
        _restarts += 1
        self._loaded.reinitialize()
