"""Print the state tables as Markdown: `python -m services.edge.conversation`."""

from services.edge.conversation import reply, turn_machine
from services.edge.conversation.state_table import as_markdown

print("The person's turn:", as_markdown(turn_machine.TABLE), sep="\n\n")
print("\nThe reply:", as_markdown(reply.TABLE), sep="\n\n")
