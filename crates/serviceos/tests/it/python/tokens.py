"""Tokens by PyJWT: one of each algorithm with the set of keys for them, and some that are not good."""

import base64
import json
import sys
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

issuer = sys.argv[1]
now = int(time.time())
claims = {
    "iss": issuer,
    "sub": "1b0e7a5c-3f4d-4a52-9d0c-6f1f0f2f9a11",
    "aud": "authenticated",
    "exp": now + 3600,
    "iat": now,
    "role": "authenticated",
}


def encoded(number, length):
    return base64.urlsafe_b64encode(number.to_bytes(length, "big")).rstrip(b"=").decode()


rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
ec_key = ec.generate_private_key(ec.SECP256R1())
ed_key = ed25519.Ed25519PrivateKey.generate()
numbers, point = rsa_key.public_key().public_numbers(), ec_key.public_key().public_numbers()
ed_raw = ed_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
keys = [
    {"kty": "RSA", "kid": "rsa", "use": "sig", "n": encoded(numbers.n, 384), "e": encoded(numbers.e, 3)},
    {"kty": "EC", "kid": "ec", "crv": "P-256", "x": encoded(point.x, 32), "y": encoded(point.y, 32)},
    {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": encoded(int.from_bytes(ed_raw, "big"), 32)},
]
signers = {"RS256": (rsa_key, "rsa"), "PS256": (rsa_key, "rsa"), "ES256": (ec_key, "ec"), "EdDSA": (ed_key, "ed")}


def token(algorithm, changes={}):
    key, kid = signers[algorithm]
    said = {name: value for name, value in {**claims, **changes}.items() if value is not None}
    return jwt.encode(said, key, algorithm=algorithm, headers={"kid": kid})


stranger = ec.generate_private_key(ec.SECP256R1())
bad = {
    "expired": token("ES256", {"exp": now - 61}),
    "not yet": token("ES256", {"nbf": now + 120}),
    "no expiry": token("ES256", {"exp": None}),
    "another audience": token("RS256", {"aud": ["others"]}),
    "another issuer": token("EdDSA", {"iss": issuer + "/other"}),
    "another key": jwt.encode(claims, stranger, algorithm="ES256", headers={"kid": "ec"}),
    "none": jwt.encode(claims, None, algorithm="none", headers={"kid": "ec"}),
    "a secret": jwt.encode(claims, "x" * 64, algorithm="HS256", headers={"kid": "ec"}),
}
print(json.dumps({"jwks": {"keys": keys}, "good": {name: token(name) for name in signers}, "bad": bad}))
