"""One gradient step of a logistic regression, on rows drawn anew from the node's own seed."""

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

STEP = 0.5

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Improve the model that the message carries; reply with it and the number of rows."""
    (model,) = message.content.array_records["arrays"].to_numpy_ndarrays()
    rows = int(context.node_config["rows"])
    generator = np.random.default_rng(int(context.node_config["seed"]))
    features = generator.normal(size=(rows, len(model) - 1))
    labels = (features.sum(axis=1) + generator.logistic(size=rows) > 0).astype(np.float64)
    design = np.column_stack([np.ones(rows), features])
    residuals = 1 / (1 + np.exp(-design @ model)) - labels
    improved = model - STEP * design.T @ residuals / rows
    content = RecordDict(
        {"arrays": ArrayRecord([improved]), "metrics": MetricRecord({"num-examples": rows})}
    )
    return Message(content, reply_to=message)
