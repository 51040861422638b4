"""What the terminal shows: how to ask, ready to be pasted, and where the server is."""

from typing import Any

from ft.deploy.server.listen import Address

EXAMPLES = """\
# the page: {url}/

# an image
curl -F image=@photo.jpg {url}/predict

# several, and the two likeliest classes of each (top_k: classification only)
curl -F image=@one.jpg -F image=@two.jpg '{url}/predict?top_k=2'

# what the model is, its classes and limits; whether it is ready
curl {url}/info
curl {url}/health

# Python, with nothing installed
import base64, json, urllib.request

image = base64.b64encode(open("photo.jpg", "rb").read()).decode()
request = urllib.request.Request(
    "{url}/predict",
    json.dumps({{"images": [image]}}).encode(),
    {{"Content-Type": "application/json"}},
)
print(json.load(urllib.request.urlopen(request))["predictions"])

# Python, with requests
import requests

print(requests.post("{url}/predict", files=[("image", open("photo.jpg", "rb"))]).json()["predictions"])"""


def examples(url: str) -> str:
    """Requests to a server at ``url``, which has no slash at its end."""
    return EXAMPLES.format(url=url)


def welcome(address: Address, port: int, info: dict[str, Any]) -> str:
    """Shown once the server answers.

    Args:
        address: As it was asked for.
        port: As it became.
        info: From ``describe_model``.
    """
    url, classes = address.url(port), info["classes"]
    lines = [f"{info['origin']}: {info['model']['name']}, {info['task']}, {len(classes)} outputs"]
    if address.port not in (0, port):
        lines.append(f"port {address.port} is taken, so it is {port}")
    lines.append(f"{url}/   (Ctrl-C ends it; --dry shows how to ask)")
    if address.is_public:
        lines.append(f"host={address.host}: whoever reaches this machine may ask; LIT_SERVER_API_KEY=... wants a key")
    return "\n".join(lines)
