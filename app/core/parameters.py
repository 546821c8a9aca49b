"""Query parameters that a call does not know are refused, as unknown fields of bodies and forms are.

Passed over, a misspelt filter answers another question than was asked, and nothing shows it.
"""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant

from app.core.auth import Principal, current_principal
from app.core.errors import Unprocessable


def only_known_parameters(
    request: Request, _principal: Annotated[Principal, Depends(current_principal)]
) -> None:
    """FastAPI dependency of every call with a key; raises Unauthorized first, then Unprocessable."""
    known = _names(request.scope["route"].dependant)
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        said = f"known: {', '.join(sorted(known))}" if known else "it knows none"
        errors = [
            {"loc": ["query", name], "detail": f"There is no parameter `{name[:100]}` here; {said}."}
            for name in unknown[:10]
        ]
        raise Unprocessable(str(errors[0]["detail"]), errors=errors)


def _names(dependant: Dependant) -> set[str]:
    """The query parameters that a route and what it depends on read."""
    found = {field.alias for field in dependant.query_params}
    return found.union(*(_names(further) for further in dependant.dependencies))
