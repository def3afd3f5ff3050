"""Which cloud region this machine is in, by the metadata service of the cloud."""

import requests

from exporter.errors import FetchFailed

SECONDS = 2.0
LONGEST_CHARACTERS = 64


def locate(base_url: str) -> str:
    """The region in the form `aws:eu-west-1`, from the service at `base_url`.

    Asks Google Cloud, Azure and AWS (IMDSv2) in that order; they share an address, and answer only
    to their own header. Proxies are not used: it is a link-local address. Raises FetchFailed.
    """
    session = requests.Session()
    session.trust_env = False
    for provider, ask in (("gcp", _gcp), ("azure", _azure), ("aws", _aws)):
        try:
            region = ask(session, base_url)
        except requests.ConnectionError:
            break
        except requests.RequestException:
            continue
        if region:
            return f"{provider}:{region}"
    raise FetchFailed("not_found", f"no metadata service of a cloud answers at {base_url}")


def _gcp(session: requests.Session, base_url: str) -> str:
    zone = _text(
        session, f"{base_url}/computeMetadata/v1/instance/zone", {"Metadata-Flavor": "Google"}
    )
    return zone.rpartition("/")[2].rpartition("-")[0]


def _azure(session: requests.Session, base_url: str) -> str:
    path = "/metadata/instance/compute/location?api-version=2021-02-01&format=text"
    return _text(session, base_url + path, {"Metadata": "true"})


def _aws(session: requests.Session, base_url: str) -> str:
    answer = session.put(
        f"{base_url}/latest/api/token",
        headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"},
        timeout=SECONDS,
        allow_redirects=False,
    )
    answer.raise_for_status()
    if not answer.text.isascii() or not answer.text.isprintable():
        return ""
    path = f"{base_url}/latest/meta-data/placement/region"
    return _text(session, path, {"X-aws-ec2-metadata-token": answer.text})


def _text(session: requests.Session, url: str, headers: dict[str, str]) -> str:
    """A short plain answer; "" where it is anything else."""
    answer = session.get(url, headers=headers, timeout=SECONDS, allow_redirects=False)
    answer.raise_for_status()
    text = answer.text.strip()
    is_short = len(text) <= LONGEST_CHARACTERS and text.isascii()
    is_plain = is_short and text.replace("/", "").replace("-", "").isalnum()
    return text if answer.status_code == requests.codes.ok and is_plain else ""
