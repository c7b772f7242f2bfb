defmodule MyAppWeb.ErrorHTML do
  use Phoenix.Component

  # When Redis is away: the status of PowRedisCache.Error.
  def render("503.html", assigns) do
    ~H"""
    <main>
      <h1>We will be back soon</h1>
      <p>The site is not available at the moment. Please try again in a few seconds.</p>
      <p>Please try again in a few seconds.</p>
    </main>
    """
  end

  def render(template, _assigns), do: Phoenix.Controller.status_message_from_template(template)
end
