"""What modules say of their option `auth`: `api_session.AUTH` in words."""

from __future__ import annotations


class ModuleDocFragment:
    """For `extends_documentation_fragment: [brume.cloud.session]`."""

    DOCUMENTATION = r"""
options:
  auth:
    description: Who logs in, and where. With O(auth.system_scope) for the system, else for a project.
    type: dict
    required: true
    suboptions:
      auth_url: {description: "Address of the Identity API; C(/v3) may be left out.", type: str, required: true}
      username: {description: "Name of the user.", type: str, required: true}
      password: {description: "Password of the user.", type: str, required: true}
      user_domain_name: {description: "Domain of the user.", type: str, default: Default}
      project_name: {description: "Project to log in to.", type: str}
      project_domain_name: {description: "Domain of the project.", type: str, default: Default}
      system_scope: {description: "Log in for the system instead of a project.", type: str, choices: [all]}
      former_password:
        description: In check mode, tried where O(auth.password) is not accepted, because nothing has set it yet.
        type: str
      ca_file: {description: "File of CA certificates (PEM); the system's unless given.", type: path}
      timeout: {description: "Longest wait for an answer in seconds.", type: int, default: 60}
"""
