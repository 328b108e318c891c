"""What a person looks at: the report with its figures, the preview picture and the model card."""
