"""Signed tokens as clients have them, of as many workspaces: each is a counter of its own."""

import base64
import hashlib
import hmac
import json
import time

SECRET = "a signing secret for comparisons, 32 bytes or more"
LIFETIME = 24 * 3600


def sign(workspace, scope="read"):
    """A token of a workspace."""
    now = int(time.time())
    claims = {"iss": "bench", "aud": "bench", "sub": f"user-{workspace}", "workspace": f"workspace-{workspace}", "scope": scope,
              "jti": f"token-{workspace}", "iat": now, "exp": now + LIFETIME}
    signed = ".".join(_encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT", "kid": "k1"}, claims))
    return f"mb_{signed}.{_encoded(hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest())}"


def _encoded(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
